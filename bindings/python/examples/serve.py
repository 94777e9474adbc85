#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Serves pieces of files over a Unix socket: asyncio, and one thread for many small reads.

    serve.py SOCKET FILE...

A client sends lines `NUMBER OFFSET LENGTH`, where NUMBER is that of a file, from 0 on, and gets
for each a line with the count of bytes, and then the bytes; or, where there are none to be
had, a line `error` with the reason. Lines of one client are answered in their order, and
those of different clients side by side: each waits for its own reads alone.

All reads go into one buffer, cut into places of 64 KiB; while none is free, nobody is read for,
and the clients wait. Ends on SIGTERM or Ctrl-C, and says how much was read, and by which path.
"""

import asyncio
import os
import signal
import sys

import gds

PLACES = 256
PLACE_BYTES = 64 << 10


class Server:
    def __init__(self, files):
        self.files = [gds.File(file) for file in files]
        self.reader = gds.Reader()
        self.buffer = gds.Device("host").alloc(PLACES * PLACE_BYTES)
        self.memory = self.buffer.memoryview()
        self.free = asyncio.Queue()
        for place in range(PLACES):
            self.free.put_nowait(place * PLACE_BYTES)

    async def answer(self, line, stream):
        """One request: its bytes are copied but once, out of the buffer to the socket."""
        number, offset, length = map(int, line.split())
        if not 0 <= number < len(self.files):
            raise ValueError(f"no file {number}")
        if not 0 <= length <= PLACE_BYTES:
            raise ValueError(f"{length} bytes, and at most {PLACE_BYTES} may be asked for")
        place = await self.free.get()
        try:
            result = await self.reader.submit(self.files[number], self.buffer, offset, length, place)
            stream.write(b"%d\n" % result.nbytes)
            stream.write(bytes(self.memory[place : place + result.nbytes]))
        finally:
            self.free.put_nowait(place)
        await stream.drain()

    async def serve(self, lines, stream):
        try:
            while line := await lines.readline():
                try:
                    await self.answer(line, stream)
                except (ValueError, gds.Error) as error:
                    stream.write(f"error {error}\n".encode())
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the server goes
        finally:
            stream.close()


async def main(socket, files):
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Server(files)
    listening = await asyncio.start_unix_server(server.serve, socket)
    print("listening", flush=True)
    await stop.wait()
    listening.close()
    os.unlink(socket)
    print(server.reader)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
