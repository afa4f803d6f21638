"""A WebSocket protocol that lets its refusals arrive.

A frame over the limit is refused at its header, while the client still sends the rest. Closing
then, as uvicorn does, makes the kernel answer that rest with a reset, which may overtake the close
frame: the client sees a lost connection, not 1009, and sends the same frame again elsewhere.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class LingeringProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol; after a refusal it says no more, and reads on until the client has closed."""

    def data_received(self, data: bytes) -> None:
        """Take what came, and throw it away behind a refusal."""
        if self.conn.parser_exc is None or not self.close_sent:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """Send the close frame and the end of our side; close when the client does, or in a while."""
        assert self.conn.close_sent is not None  # noqa: S101 - the parser sent it where it failed
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # With this timer set, the end of the application does not close the connection either.
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
