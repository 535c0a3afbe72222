"""Your own videos as records: a JSONL or CSV manifest → clips in ArrayRecord. `docs/own_videos.md` is the guide."""
