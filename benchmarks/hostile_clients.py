"""Clients that do harm to a server of completions."""

import asyncio
import time
from collections import Counter
from typing import Any

from requests_of_texts import answered, framed, request


def hostile(port: int, model: str, seconds: float) -> Counter[str]:
    """Clients that do harm, as often as they can for some seconds; the answers that they got."""
    found: Counter[str] = Counter()

    async def cut_stream() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(model, 0, stream=True, max_tokens=4096, n=8))
        await reader.readuntil(b"data: ")
        writer.close()
        found["streams cut"] += 1

    async def reads_nothing() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request(model, 0, stream=True, max_tokens=4096, n=8))
        await asyncio.sleep(1)
        writer.close()
        found["readers that read nothing"] += 1

    async def large_body() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(framed(b"", length=100 << 20))
        for _ in range(100):
            writer.write(bytes(1 << 20))
            try:
                await asyncio.wait_for(writer.drain(), 1)
            except OSError:
                break
        found["bodies of 100 MB"] += 1
        writer.close()

    async def refused(name: str, content: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(content)
        status, _ = await answered(reader)
        found[f"{name}: {status}"] += 1
        writer.close()

    async def again(work: Any, *words: Any) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            try:
                await work(*words)
            except (OSError, asyncio.IncompleteReadError) as error:
                found[f"{work.__name__}: {type(error).__name__}"] += 1

    async def all_of_them() -> None:
        wrong = request(model, 0, key="another")
        await asyncio.gather(
            *(again(cut_stream) for _ in range(4)),
            *(again(reads_nothing) for _ in range(4)),
            again(large_body),
            again(refused, "wrong JSON", framed(b'{"model": ')),
            again(refused, "wrong key", wrong),
        )

    asyncio.run(all_of_them())
    return found
