# SPDX-License-Identifier: BSD-2-Clause
"""Packages of services: the same source gives the same bytes, and what is odd is refused."""

import io
import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gentee.abi import gp
from gentee.abi import service_package as limits
from gentee.errors import TaImageError
from gentee.secure import images, package
from gentee.secure.opening import open_image
from gentee.secure.service import format_uuid, parse_uuid
from tests import signing
from tests.signing import UUID, UUID_BYTES

MANIFEST: dict[str, Any] = {
    "format": 1,
    "main": "service.py",
    "uuid": UUID,
    "name": "signed",
    "version": 1,
    "description": "",
    "single_instance": False,
    "multi_session": False,
    "keep_alive": False,
    "apis": ["GP_TEEv1.3"],
    "properties": {},
}
MAIN = b"# a service\n"


def zipped(
    *files: tuple[str, bytes], change: Callable[[zipfile.ZipInfo], object] | None = None,
    method: int = zipfile.ZIP_STORED, comment: bytes = b"",
) -> bytes:  # fmt: skip
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in files:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = 0o100644 << 16
            if change is not None:
                change(info)
            archive.writestr(info, content)
        archive.comment = comment
    return target.getvalue()


def manifest(**changed: object) -> bytes:
    found = {**MANIFEST, **changed}
    return json.dumps({key: value for key, value in found.items() if value is not ...}).encode()


def plain(text: bytes | None = None, *more: tuple[str, bytes], **changed: Any) -> bytes:
    text = manifest() if text is None else text
    return zipped(("manifest.json", text), ("service.py", MAIN), *more, **changed)


def refused(data: bytes) -> str:
    with pytest.raises(TaImageError) as caught:
        package.read(data)
    assert caught.value.code == gp.TEE_ERROR_BAD_FORMAT
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Both ways


def test_a_file_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "keeper.py"
    path.write_text(
        signing.source(
            version=7,
            flags='description = "what for, é"\n'
            "    single_instance = True; multi_session = True; keep_alive = True\n"
            '    apis = ("GP_TEEv1.3", "COM_EXAMPLE")\n'
            '    properties = {"com.example.text": "é", "com.example.number": 1, '
            '"com.example.bytes": b"\\x00\\xff", "com.example.bool": False}',
        )
    )
    service, data = package.pack(str(path))
    found = package.read(data)
    for one in (service, found.service):
        assert (one.uuid, one.name, one.version) == (UUID_BYTES, "signed", 7)
        assert one.description == "what for, é"
        assert (one.single_instance, one.multi_session, one.keep_alive) == (True, True, True)
        assert one.apis == ("GP_TEEv1.3", "COM_EXAMPLE")
        assert one.properties == {
            "com.example.text": "é",
            "com.example.number": 1,
            "com.example.bytes": b"\x00\xff",
            "com.example.bool": False,
        }
        assert one.properties["com.example.bool"] is False
    assert found.main == "keeper.py"
    assert found.files["keeper.py"] == path.read_bytes()
    assert sorted(found.files) == ["keeper.py", "manifest.json"]
    again = package.described_by(found.files["manifest.json"].decode())
    assert again.properties == service.properties


def test_a_folder_both_ways(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    (folder / "helpers" / "deep").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    (folder / ".git").mkdir()
    contents = {
        "main.py": signing.source().encode(),
        "other.py": b"x = 1\n",
        "helpers/__init__.py": b"",
        "helpers/deep/data.bin": bytes(range(256)),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for name in ("main.pyc", "main.py~", ".hidden", "__pycache__/x.py", ".git/config"):
        (folder / name).write_bytes(b"left out")
    service, data = package.pack(str(folder))
    assert service.uuid == UUID_BYTES
    found = package.read(data)
    assert found.main == "main.py"
    found.files.pop("manifest.json")
    assert found.files == contents


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    packed: list[bytes] = []
    for name, umask in (("one", 0o077), ("two", 0)):
        before = os.umask(umask)
        try:
            folder = tmp_path / name
            folder.mkdir()
            names = ["a.py", "main.py", "z.py"]
            for each in names if name == "one" else reversed(names):
                text = signing.source() if each == "main.py" else f"# {each}\n"
                (folder / each).write_text(text)
                os.utime(folder / each, (len(packed), len(packed)))
        finally:
            os.umask(before)
        packed.append(package.pack(str(folder))[1])
    assert packed[0] == packed[1]
    # And they are these bytes everywhere: a change here changes the format.
    with zipfile.ZipFile(io.BytesIO(packed[0])) as archive:
        assert archive.namelist() == ["manifest.json", "a.py", "main.py", "z.py"]
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "no module there"),
        ({"x.py": "y = 1"}, "no module there"),
        ({"a.py": signing.source(), "b.py": signing.source()}, "more than one main module"),
        ({"in/main.py": signing.source()}, "no module there"),
        ({"main.py": signing.source(), "manifest.json": "{}"}, "of its own"),
        ({"main.py": "class X("}, "main.py"),
        ({"main.py": signing.source(flags="apis = 5")}, "apis"),
        ({"main.py": signing.source(name="x" * 64)}, "name"),
        ({"main.py": signing.source(), "a" * 201: ""}, "too long"),
        ({"main.py": signing.source(), "a:b": ""}, "characters"),
    ],
    ids=range(10),
)
def test_a_folder_that_cannot_be_packed(
    files: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(TaImageError, match=complaint):
        package.pack(str(tmp_path))


def test_what_is_no_file_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(signing.source())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TaImageError, match="no regular file"):
        package.pack(str(tmp_path))
    (tmp_path / "pipe").unlink()
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(TaImageError, match="a link to a folder"):
        package.pack(str(tmp_path))
    (tmp_path / "link").unlink()
    (tmp_path / "none.py").write_text("x = 1")
    with pytest.raises(TaImageError, match="no class in it"):
        package.pack(str(tmp_path / "none.py"))
    for name in ("a-b.py", "service"):
        (tmp_path / name).write_text(signing.source())
        with pytest.raises(TaImageError, match="name of a module"):
            package.pack(str(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        package.pack(str(tmp_path / "missing.py"))


# Names, limits and forms of the ZIP file


def test_what_the_helper_makes_is_right() -> None:
    assert package.read(plain()).service.name == "signed"


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x.py",
        "a/../x.py",
        "a//x.py",
        "./x.py",
        "a/.",
        "folder/",
        "a\\b.py",
        "c:x.py",
        "new\nline",
        "esc\x1b[0m",
        "bell\x07",
        "x" * 201,
        "/".join("abcdefghi"),
        "é" * 101,
    ],
)
def test_a_name_that_leads_elsewhere(name: str) -> None:
    assert limits.name_problem(name)
    assert "package: " in refused(plain(None, (name, b"")))


@given(st.text(max_size=300))
def test_names(name: str) -> None:
    if not limits.name_problem(name):
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert name.isprintable()
        assert len(name.encode()) <= limits.MAX_NAME


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (lambda: b"", "no ZIP file"),
        (lambda: b"PK\x03\x04", "no ZIP file"),
        (lambda: b"x" + plain(), "no ZIP file"),
        (lambda: plain() + b"x", "something follows"),
        (lambda: plain(comment=b"hello"), "something follows"),
        (lambda: plain()[:-1], "something follows"),
        (lambda: zipped(), "no ZIP file"),
        (lambda: zipped(("service.py", MAIN)), "no manifest.json"),
        (lambda: zipped(("manifest.json", manifest())), "main must name"),
        (lambda: plain(None, ("service.py/x", b"")), "also a folder"),
        (lambda: plain(method=zipfile.ZIP_DEFLATED), "compressed"),
        (lambda: plain(method=zipfile.ZIP_LZMA), "'manifest.json'"),
        (lambda: plain(change=lambda i: setattr(i, "extra", b"\x99\x99\0\0")), "extra"),
        (lambda: plain(change=lambda i: setattr(i, "comment", b"c")), "extra"),
        (
            lambda: plain(change=lambda i: setattr(i, "external_attr", stat.S_IFLNK << 16)),
            "no regular file",
        ),
        (
            lambda: plain(change=lambda i: setattr(i, "external_attr", stat.S_IFDIR << 16)),
            "no regular file",
        ),
        (lambda: plain(None, *[(f"{n}", b"") for n in range(1023)]), "1025 files"),
        (lambda: plain(b"{" + b" " * limits.MAX_MANIFEST + b"}"), "larger than"),
    ],
    ids=range(18),
)
def test_a_zip_file_that_is_refused(data: Callable[[], bytes], complaint: str) -> None:
    assert complaint in refused(data())


def test_as_many_files_as_may_be() -> None:
    assert len(package.read(plain(None, *[(f"{n}", b"") for n in range(1022)])).files) == 1024


def test_a_name_twice() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = plain(None, ("service.py", MAIN))
    assert "twice" in refused(data)


def test_too_large() -> None:
    assert "larger than" in refused(bytes(limits.MAX_PACKAGE + 1))


def _patched(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """``value`` in each header that starts with ``signature``."""
    found = bytearray(data)
    at = data.find(signature)
    while at >= 0:
        found[at + offset : at + offset + len(value)] = value
        at = data.find(signature, at + 4)
    return bytes(found)


@pytest.mark.parametrize(
    ("signature", "offset", "value", "complaint"),
    [
        (b"PK\x01\x02", 8, b"\x01\x00", "encrypted"),
        (b"PK\x01\x02", 8, b"\x08\x00", "flags 0x8"),
        (b"PK\x01\x02", 8, b"\x41\x00", "encrypted"),
        (b"PK\x01\x02", 10, b"\x63\x00", "compressed"),
        (b"PK\x01\x02", 10, b"\x0c\x00", "compressed"),
        (b"PK\x01\x02", 24, b"\xff\xff\xff\x7f", "larger than the package"),  # a bomb
        (b"PK\x01\x02", 20, b"\x00\x00\x00\x00", "compressed"),
        (b"PK\x01\x02", 42, b"\xff\xff\xff\x7f", "no ZIP file"),
        (b"PK\x03\x04", 26, b"\x01\x00", "no ZIP file"),
        (b"PK\x05\x06", 4, b"\x01\x00", "several parts"),
        (b"PK\x05\x06", 8, b"\x01\x00", "several parts"),
        (b"PK\x05\x06", 8, b"\x00\x00\x00\x00", "0 files"),
        (b"PK\x05\x06", 8, b"\xff\xff\xff\xff", "65535 files"),
        (b"PK\x05\x06", 12, b"\xff\xff\xff\xff", "directory"),
        (b"PK\x05\x06", 16, b"\x00\x00\x00\x00", "directory"),
        (b"PK\x05\x06", 20, b"\x01\x00", "something follows"),
    ],
)
def test_a_header_of_the_zip_file_that_is_wrong(
    signature: bytes, offset: int, value: bytes, complaint: str
) -> None:
    assert complaint in refused(_patched(plain(), signature, offset, value))


def test_zip64() -> None:
    data = plain()
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, 0, 1)
    end = data[-22:]
    moved = bytearray(data[:-22] + locator + end)
    size = int.from_bytes(end[12:16], "little") + len(locator)
    moved[-10:-6] = size.to_bytes(4, "little")
    assert "ZIP64" in refused(bytes(moved))


def test_content_that_was_changed() -> None:
    data = bytearray(plain())
    at = data.find(MAIN)
    data[at] ^= 1
    assert "CRC" in refused(bytes(data))


@given(st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    whole = bytearray(plain())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = package.read(bytes(whole))
    except TaImageError:
        return
    assert found.main in found.files
    assert sum(map(len, found.files.values())) <= len(whole)


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    for whole in (data, b"PK\x03\x04" + data, data + plain()[-22:], b"PK\x03\x04" + plain()[4:-22]):
        with pytest.raises(TaImageError):
            package.read(whole)


# The manifest


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "manifest.json"),
        (b"[]", "not an object"),
        (b"\xff\xfe", "manifest.json"),
        (b"{}", "format None"),
        (b"[" * 10_000, "manifest.json"),
        (manifest(format=2), "format 2 is not 1"),
        (manifest(format=True), "format True"),
        (manifest(format="1"), "format '1'"),
        (manifest(other=1), "'other' is unknown"),
        (manifest(uuid=...), "uuid is missing"),
        (manifest(apis=...), "apis is missing"),
        (manifest()[:-1] + b', "name": "again"}', "occurs twice"),
        (manifest(uuid="x"), "not a UUID"),
        (manifest(uuid=5), "uuid must be a str"),
        (manifest(name=""), "name must have"),
        (manifest(name="x" * 64), "name must have"),
        (manifest(name="a\nb"), "name must have"),
        (manifest(version="1"), "version must be a int"),
        (manifest(version=1.0), "version must be a int"),
        (manifest(version=True), "version must be a int"),
        (manifest().replace(b'"version": 1', b'"version": NaN'), "NaN"),
        (manifest(description=None), "description must be a str"),
        (manifest(description="x" * 1025), "description"),
        (manifest(single_instance=1), "single_instance must be a bool"),
        (manifest(multi_session=True), "need single_instance"),
        (manifest(keep_alive=True), "need single_instance"),
        (manifest(apis="GP"), "apis"),
        (manifest(apis=[""]), "apis"),
        (manifest(apis=["x" * 32]), "apis"),
        (manifest(apis=["a b"]), "apis"),
        (manifest(apis=["é"]), "apis"),
        (manifest(apis=["x"] * 9), "apis"),
        (manifest(apis=[5]), "apis"),
        (manifest(properties=[]), "properties must be an object"),
        (manifest(properties={"": 1}), "cannot be a name"),
        (manifest(properties={"gpd.ta.appID": 1}), "cannot be a name"),
        (manifest(properties={"x" * 129: 1}), "cannot be a name"),
        (manifest(properties={"a\0": 1}), "printable"),
        (manifest(properties={"x": -1}), "must be text"),
        (manifest(properties={"x": 1 << 64}), "must be text"),
        (manifest(properties={"x": 1.5}), "must be text"),
        (manifest(properties={"x": None}), "must be text"),
        (manifest(properties={"x": "y" * 4097}), "4096"),
        (manifest(properties={"x": {"base64": "!"}}), "manifest.json"),
        (manifest(properties={"x": {"base64": "AA==", "y": 1}}), "base64"),
        (manifest(properties={"x": {"hex": "00"}}), "base64"),
        (manifest(properties={f"x{n}": 1 for n in range(65)}), "up to 64"),
        (manifest(main="other.py"), "main must name"),
        (manifest(main="manifest.json"), "main must name"),
        (manifest(main=["service.py"]), "main must name"),
        (manifest(main="sub/service.py"), "main must name"),
    ],
    ids=range(51),
)
def test_a_manifest_that_is_refused(text: bytes, complaint: str) -> None:
    assert complaint in refused(plain(text, ("sub/service.py", MAIN)))


# In an image


def test_in_an_image(tmp_path: Path) -> None:
    accepted = signing.accepted(tmp_path)
    opened = open_image(signing.signed(signing.source(), 5), accepted)
    service, found, image = opened.service, opened.package, opened.image
    assert found is not None
    # The header's version counts; the manifest says 1.
    assert (service.version, found.manifest["version"], image.version) == (5, 1, 5)
    assert service.signed
    assert service.signer == image.signer.fingerprint
    assert service.read() == image.payload


@pytest.mark.parametrize(
    ("image", "complaint", "code"),
    [
        (
            lambda: images.sign(plain(), signing.key(), parse_uuid(signing.uuid_of(9)), 1),
            f"the manifest's UUID is {UUID}, the header's {signing.uuid_of(9)}",
            gp.TEE_ERROR_SECURITY,
        ),
        (
            lambda: images.sign(b"\x7fELF" + bytes(60), signing.key(), UUID_BYTES, 1),
            "ELF: neither of 32 nor of 64 bits",
            gp.TEE_ERROR_BAD_FORMAT,
        ),
        (
            lambda: images.sign(b"something else", signing.key(), UUID_BYTES, 1),
            "no ZIP file",
            gp.TEE_ERROR_BAD_FORMAT,
        ),
        (
            lambda: images.sign(b"", signing.key(), UUID_BYTES, 1),
            "no ZIP file",
            gp.TEE_ERROR_BAD_FORMAT,
        ),
    ],
)
def test_an_image_with_something_else_inside(
    image: Callable[[], bytes], complaint: str, code: int, tmp_path: Path
) -> None:
    with pytest.raises(TaImageError) as caught:
        open_image(image(), signing.accepted(tmp_path))
    assert complaint in str(caught.value)
    assert caught.value.code == code


def test_a_package_is_not_looked_at_before_it_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(signing.signed(signing.source()))
    data[-1] ^= 1
    monkeypatch.setattr(package, "read", lambda data: pytest.fail("it was"))
    with pytest.raises(TaImageError, match="digest"):
        open_image(bytes(data), signing.accepted(tmp_path))
    assert format_uuid(UUID_BYTES) == UUID
