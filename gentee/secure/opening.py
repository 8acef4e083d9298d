# SPDX-License-Identifier: BSD-2-Clause
"""What a verified image is: a service in Python, a TA of OP-TEE, or a library of such TAs."""

from gentee.abi.elf import ELFMAG
from gentee.abi.service_package import FORMAT_ELF, MANIFEST
from gentee.errors import TaImageError
from gentee.secure import elf_service, package
from gentee.secure.images import Image, verify
from gentee.secure.service import Service, format_uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gentee.secure.keys import AcceptedKeys


class OpenedImage:
    """An image that was verified.

    :ivar package: what it has inside; None if that is an ELF file.
    :ivar manifest: what the TEE's state keeps, to know the service without its image.
    """

    __slots__ = ("image", "manifest", "package", "service")

    def __init__(self, service: Service, image: Image, package: package.Package | None) -> None:
        self.service = service
        self.image = image
        self.package = package
        if package is not None:
            self.manifest = package.files[MANIFEST].decode()
        else:
            self.manifest = elf_service.manifest_of(service)


def open_image(data: bytes, keys: "AcceptedKeys", uuid: bytes | None = None) -> OpenedImage:
    """The service in a signed image.

    The header's version counts, not that of a package's manifest: it is what the signer said last.

    :param uuid: which service it has to be, where that is known.
    :raises TaImageError: with the code that a client gets.
    """
    image = verify(data, keys, uuid)
    if image.payload.startswith(ELFMAG):
        opened = _open_elf(image, uuid)
    else:
        opened = _open_package(image)
    service = opened.service
    service.version = image.version
    service.signed = True
    service.signer = image.signer.fingerprint
    service.subkeys = image.subkey_versions
    service.payload = image.payload
    return opened


def _open_elf(image: Image, uuid: bytes | None) -> OpenedImage:
    named = image.uuid if image.uuid is not None else uuid
    if named is None:
        raise TaImageError(
            "the legacy form of the header has no UUID: the file's name must be UUID.ta"
        )
    return OpenedImage(elf_service.describe_elf(image.payload, named), image, None)


def _open_package(image: Image) -> OpenedImage:
    if image.uuid is None:
        raise TaImageError("a service in Python needs the bootstrap form of the header")
    read = package.read(image.payload)
    if read.service.uuid != image.uuid:
        found, wanted = format_uuid(read.service.uuid), format_uuid(image.uuid)
        raise TaImageError(f"the manifest's UUID is {found}, the header's {wanted}")
    return OpenedImage(read.service, image, read)


def described_by(manifest: str) -> Service:
    """The service that :attr:`OpenedImage.manifest` describes; TaImageError if it is none."""
    try:
        found = package.parse_json(manifest.encode())
    except (ValueError, RecursionError):
        found = {}  # the message below is the package's
    if found.get("format") == FORMAT_ELF:
        return elf_service.described_by(found)
    return package.described_by(manifest)
