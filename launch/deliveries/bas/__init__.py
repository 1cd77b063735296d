"""The corpora of the Bavarian Archive for Speech Signals: recordings beside Partitur or EMU annotations."""
