"""Cookie headers that an attacker or an odd client sends: for the parser alone, and for every adapter.

`#` stands for the cookie's name and `@` for a live ID. More than one value: more than one header.
"""

from typing import Final

__all__ = ["AMBIGUOUS", "FOUND", "MALFORMED", "RESEMBLING", "filled"]

Headers = tuple[bytes, ...]


def filled(headers: Headers, name: bytes, sid: str) -> list[bytes]:
    return [header.replace(b"#", name).replace(b"@", sid.encode()) for header in headers]


FOUND: Final[list[Headers]] = [
    (b"#=@",), (b"a=1; #=@",), (b"#=@; b=2",), (b"a=1;#=@;b=2",), (b"  \t#=@ \t ",), (b"# = @",), (b"#\t=\t@",),
    (b"a=1;\t # \t=\t @ \t; b=2",), (b";;; #=@;;",), (b"a=1", b"b=2; #=@"), (b"a=1", b"#=@", b"c=3"), (b"#=@", b"#=@"),
    (b"#=@; #=@",), (b'j={"a":1,"b":"x y"}; #=@',), (b'q="unfinished; #=@',), (b'q="start; #=@; r=end"',),
    (b"u=\xff\xfe\xc3; #=@",), (b"=x; #=@",), (b"#; #=@",), (b"flag; #=@",), (b"$Version=1; #=@",), (b"x#=other; #=@",),
    (b"#x=other; #=@",), (b"__host-session_id=X; #=@",), (b"a=#; #=@",), (b"a=" + b"\\" * 7000 + b"; #=@",),
]  # fmt: skip

RESEMBLING: Final[list[Headers]] = [
    (row,)
    for row in (
        b"", b";", b"a=1", b"__host-session_id=@", b"__HOST-SESSION_ID=@", b"__Host-SESSION_id=@", b"\xe2\x80\x80#=@",
        b"\xc2\x85#=@", b"\xc2\xa0#=@", b"\xe3\x80\x80#=@", b"\x85#=@", b"\xa0#=@", b"#\x85=@", b"#\xa0=@",
        b"#\xe2\x80\x80=@", b"a=1; \xe2\x80\x80#=@", b"a=1 #=@", b"a=1, #=@", b"a=1\t#=@", b"a=1\x0b#=@", b"a=1\x1c#=@",
        b"\x0b#=@", b"\x0c#=@", b"\r#=@", b"\n#=@", b"\x00#=@", b"\x01#=@", b"\x7f#=@", b"#\x00=@", b"#\x1c=@",
        b"$Version=1,#=@", b'"#"=@', b"__Host%2Dsession_id=@", b"%5F_Host-session_id=@", b"x#=@", b"#x=@", b"=#=@",
        b"#", b"@", b"=", b"==", b"=#",
    )
]  # fmt: skip

# Each with the value that is read, which is no ID.
MALFORMED: Final[list[tuple[Headers, str]]] = [
    *(((b"#=" + value,), value.decode("latin-1")) for value in (
        b"", b"A" * 21, b"A" * 257, b"A" * 4096, b'"@"', b'"\\101@"', b"\\101", b"%41@", b"a=b",
        b"\xc3\xa9" + b"A" * 42, b"@\xc2\xa0", b"@\xa0", b"@ @", b"@,", b"@, a=1", b"@=", b"+" + b"A" * 42,
        b"/" + b"A" * 42, b"@.", b"@~", b"@\x00", b"../../../../../../../../etc/passwd", b"*", b"?" * 43,
        b"csrf:" + b"A" * 43,
    )),
    ((b"#=@\x0b; a=1",), "@\x0b"), ((b"a=1;#=\x0c@",), "\x0c@"),  # bytes.strip() would remove it
    ((b'$Version=1; #="@"; $Path=/',), '"@"'),
]  # fmt: skip

AMBIGUOUS: Final[list[Headers]] = [
    (b"#=@; #=other",), (b"#=other; #=@",), (b"#=@", b"#=other"), (b"#=" + b"A" * 43, b"#=@"), (b"#=@; #=",),
    (b'#="; #=@',), (b"#=@", b"a=1", b"b=2; #=" + b"A" * 43),
]  # fmt: skip
