"""``python -m appliance.rag``: the process behind ``banip-api.service``."""

from __future__ import annotations

from pathlib import Path

import click
import uvicorn

from appliance.rag.service import create_app


@click.command()
@click.option("--release", "folder", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--model", required=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8600, show_default=True)
def main(folder: Path, model: str, port: int) -> None:
    """Answer on loopback for the release in the folder RELEASE."""
    uvicorn.run(create_app(folder, model), host="127.0.0.1", port=port, log_level="info", access_log=False)


if __name__ == "__main__":
    main()
