// A click on a column's head sorts its table; a click on a word plays it.
const number = text => parseFloat(text.replaceAll(",", ""));
const compare = (a, b) => {
  const [x, y] = [number(a), number(b)];
  return isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y;
};

function sort(head) {
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const body = head.closest("table").tBodies[0];
  const text = row => row.cells[head.cellIndex].textContent;
  const rows = [...body.rows].sort((a, b) => (ascending ? 1 : -1) * compare(text(a), text(b)));
  body.append(...rows);
}

function play(word) {
  const audio = word.closest("article").querySelector("audio");
  if (!audio) return;
  audio.currentTime = word.dataset.start;
  audio.ontimeupdate = () => { if (audio.currentTime >= word.dataset.end) { audio.pause(); audio.ontimeupdate = null; } };
  audio.play();
}

document.addEventListener("click", event => {
  const [head, word] = [event.target.closest("th"), event.target.closest(".word")];
  if (head) sort(head);
  if (word) play(word);
});
