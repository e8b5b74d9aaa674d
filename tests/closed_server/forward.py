"""A door from this machine into a closed server's loopback, for a browser that takes pictures.

Runs as a program of its own: listens on this machine's loopback, prints its port, and joins each caller to a
socket made inside the server's network namespace that connects to the server's own 127.0.0.1. The server gets
no route and no address to go to: nothing that it starts can use this. Not seen through it: whether the
server's firewall would let a caller from outside in.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from contextlib import suppress

from tests.closed_server.inside import inside

CHUNK = 1 << 16


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carry bytes one way until they end; the other way may go on."""
    with suppress(OSError):
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


async def join(
    namespace: str, port: int, caller: asyncio.StreamReader, answers: asyncio.StreamWriter
) -> None:
    """Connect one caller to the server; one that listens to nobody hangs up on the caller."""
    with inside(namespace):
        plug = socket.socket()
    plug.settimeout(0)
    try:
        await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=plug)
        await asyncio.gather(pump(caller, writer), pump(reader, answers))
        writer.close()
    except OSError as error:
        sys.stderr.write(f"port {port} of the closed server: {error}\n")
        plug.close()
    finally:
        answers.close()


async def serve(namespace: str, port: int) -> None:
    """Listen, say where, and go on until killed."""

    async def joined(caller: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        await join(namespace, port, caller, answers)

    server = await asyncio.start_server(joined, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


def main() -> None:
    """Parse the one call that `network.py` makes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--port", type=int, required=True)
    told = parser.parse_args()
    asyncio.run(serve(told.server, told.port))


if __name__ == "__main__":
    main()
