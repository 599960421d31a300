"""Why a connection could not be opened, where the error of redis-py or of the system does not say what to do."""

import ssl

from redis.exceptions import TimeoutError as RedisTimeoutError

from sessioncore.storage.redis._errors import causes, words_of

__all__ = ["IF_NO_TLS", "reason_of"]

IF_NO_TLS = "; a server that does not speak TLS keeps silent: then write redis, not rediss, in the URL"

# By what is in the text of an SSLError.
_TLS_ADVICE = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted: name the file of its CA with ?ssl_ca_certs=PATH",
    "CERTIFICATE_REQUIRED": "it wants a certificate of the client: ?ssl_certfile=PATH&ssl_keyfile=PATH",
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port: write redis, not rediss, in the URL",
}


def reason_of(exc: BaseException, *, by_tls: bool, shaking_hands: bool) -> str:
    """Return the reason and what to do; nothing if the error says enough."""
    for cause in causes(exc):
        said = words_of(cause)
        if isinstance(cause, ssl.SSLError):
            advice = next((advice for word, advice in _TLS_ADVICE.items() if word in said), "look at its TLS settings")
            return f"no TLS connection could be opened ({said}); {advice}"
        if "Protocol error" in said:
            # The first byte that a server sends by TLS, of an alert, is 0x15.
            return (
                "the server speaks TLS: write rediss, not redis, in the URL"
                if r"\x15" in str(cause) or "\x15" in str(cause)
                else "what listens there is no Redis server; correct the host and the port"
            )
        if by_tls and isinstance(cause, FileNotFoundError | PermissionError):
            return f"a file of ssl_ca_certs, ssl_certfile or ssl_keyfile cannot be read ({said}); correct its path"
        if by_tls and shaking_hands and isinstance(cause, TimeoutError | RedisTimeoutError):
            said = "no TLS connection could be opened in time; look at the server, its address and the network"
            return said + IF_NO_TLS
        if not by_tls and (isinstance(cause, ConnectionResetError) or "closed by server" in said):
            return (
                "the server closed the connection at its first command; look at its log; if it speaks TLS, write "
                "rediss, not redis, in the URL"
            )
    return ""
