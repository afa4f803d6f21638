"""OpenEnv's frames and bodies: one codec for both ends.

`requests` is what a client sends, `answers` what a server sends; each has the encoder of one
end and the decoder of the other. Nothing here knows a session, a store or a socket.
"""
