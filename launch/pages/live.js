// Records, sends raw samples, and shows what comes back. Sound stays in this tab and in the process that serves it.
"use strict";

const find = id => document.getElementById(id);
const PROCESSOR = `registerProcessor("raw", class extends AudioWorkletProcessor {
  constructor() { super(); this.block = new Int16Array(2048); this.filled = 0; }
  process([[samples]]) {
    for (const value of samples || []) {
      this.block[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(value * 32768)));
      if (this.filled === this.block.length) { this.port.postMessage(this.block.slice()); this.filled = 0; }
    }
    return true;
  }
});`;
let recording = null;
// Of all recordings of this tab, one behind the other.
const heard = { rate: 0, blocks: [], samples: 0, lines: [] };

async function start() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const context = new AudioContext(heard.rate ? { sampleRate: heard.rate } : {});
  const url = URL.createObjectURL(new Blob([PROCESSOR], { type: "text/javascript" }));
  await context.audioWorklet.addModule(url);
  URL.revokeObjectURL(url);
  heard.rate = context.sampleRate;
  const offset = heard.samples / heard.rate;
  const socket = new WebSocket(`ws://${location.host}/stream`);
  const node = new AudioWorkletNode(context, "raw");
  const now = { stream, context, socket, waiting: [] };
  socket.onopen = () => {
    socket.send(JSON.stringify({ rate: context.sampleRate }));
    now.waiting.forEach(block => socket.send(block));
    now.waiting = [];
  };
  socket.onmessage = message => show(JSON.parse(message.data), offset);
  socket.onclose = event => { stop(now); if (event.code !== 1000) find("status").textContent = event.reason || "The connection was lost."; };
  node.port.onmessage = ({ data }) => {
    if (recording !== now) return;
    heard.blocks.push(data);
    heard.samples += data.length;
    const peak = data.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    find("level").value = 20 * Math.log10(peak / 32768);
    if (socket.readyState === WebSocket.OPEN) socket.send(data);
    else now.waiting.push(data);
  };
  context.createMediaStreamSource(stream).connect(node);
  recording = now;
  find("record").textContent = "Stop";
  find("record").setAttribute("aria-pressed", "true");
  find("status").textContent = "";
}

// The server sends the last words, and closes.
function stop(now) {
  if (!now || recording !== now) return;
  recording = null;
  now.stream.getTracks().forEach(track => track.stop());
  now.context.close();
  if (now.socket.readyState === WebSocket.OPEN) now.socket.send("end");
  find("record").textContent = "Record";
  find("record").setAttribute("aria-pressed", "false");
  find("level").value = -60;
}

function show(event, offset) {
  if (event.kind === "message") { find("status").textContent = event.text; return; }
  find("words").textContent = event.kind === "provisional" ? event.text : "";
  if (event.kind !== "final") return;
  const line = { start: event.start + offset, end: event.end + offset, text: event.text };
  heard.lines.push(line);
  const item = document.createElement("li");
  const play = document.createElement("button");
  play.type = "button";
  play.textContent = "▶";
  play.setAttribute("aria-label", `Play: ${line.text}`);
  play.onclick = () => playLine(line);
  const time = document.createElement("time");
  time.textContent = clock(line.start, ".").slice(3, 10);
  const text = document.createElement("span");
  text.append(...shaded(event));
  item.append(play, time, text);
  find("lines").append(item);
  find("downloads").hidden = false;
}

// The text of an event; after a beam search, words are the fainter the less sure they are.
function* shaded({ text, words }) {
  for (const { word, confidence } of words) {
    if (confidence === null) continue;
    const at = text.indexOf(word), span = document.createElement("span");
    span.textContent = word;
    span.title = `confidence ${confidence.toFixed(2)}`;
    span.style.opacity = 0.35 + 0.65 * confidence;
    yield text.slice(0, at);
    yield span;
    text = text.slice(at + word.length);
  }
  yield text;
}

function samples() {
  const all = new Int16Array(heard.samples);
  let at = 0;
  for (const block of heard.blocks) { all.set(block, at); at += block.length; }
  return all;
}

function playLine({ start, end }) {
  const piece = samples().subarray(Math.max(0, start - 0.1) * heard.rate, (end + 0.2) * heard.rate);
  const context = new AudioContext();
  const buffer = context.createBuffer(1, piece.length, heard.rate);
  buffer.getChannelData(0).set(Float32Array.from(piece, value => value / 32768));
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.onended = () => context.close();
  source.start();
}

function clock(seconds, mark) {
  const ms = Math.round(seconds * 1000), pad = (value, width) => String(value).padStart(width, "0");
  return `${pad(Math.floor(ms / 3600000), 2)}:${pad(Math.floor(ms / 60000) % 60, 2)}:${pad(Math.floor(ms / 1000) % 60, 2)}${mark}${pad(ms % 1000, 3)}`;
}

function wav() {
  const data = samples(), head = new DataView(new ArrayBuffer(44));
  const text = (at, value) => [...value].forEach((char, i) => head.setUint8(at + i, char.charCodeAt(0)));
  text(0, "RIFF"); head.setUint32(4, 36 + 2 * data.length, true); text(8, "WAVEfmt ");
  head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true);
  head.setUint32(24, heard.rate, true); head.setUint32(28, 2 * heard.rate, true);
  head.setUint16(32, 2, true); head.setUint16(34, 16, true); text(36, "data"); head.setUint32(40, 2 * data.length, true);
  return [head, data];
}

const FILES = {
  txt: () => heard.lines.map(({ text }) => `${text}\n`),
  srt: () => heard.lines.map(({ start, end, text }, i) => `${i + 1}\n${clock(start, ",")} --> ${clock(Math.max(end, start + 1), ",")}\n${text}\n\n`),
  jsonl: () => heard.lines.map(({ start, end, text }) => JSON.stringify({ audio_filepath: "live.wav", offset: +start.toFixed(3), duration: +(end - start).toFixed(3), text }) + "\n"),
  wav,
};

find("record").onclick = () => recording ? stop(recording) : start().catch(error => { find("status").textContent = `No microphone: ${error.message}`; });
document.querySelectorAll("[data-kind]").forEach(button => {
  button.onclick = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(FILES[button.dataset.kind]()));
    link.download = `live.${button.dataset.kind}`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
});
