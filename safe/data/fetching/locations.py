"""Where the public copies of the data sets are.

CUB-200, ImageNet-R, ImageNet-A, OmniBenchmark and VTAB: the archives of Zhou et al. (arXiv 2303.07338), as the README
of the repository zhoudw-zdw/RevisitingCIL lists them. CIFAR-100: its page, with the checksum stated there.
Fashion-MNIST: where torchvision fetches it, with its checksums. DomainNet: the cleaned version's links on
http://ai.bu.edu/M3SDA. Stanford Cars: no lasting public copy is known.
"""

from __future__ import annotations

from dataclasses import dataclass

from safe.datasets.facts import DOMAIN_LISTS, DOMAINS


@dataclass(frozen=True)
class Archive:
    """One file to fetch: its name (also under a mirror) and one public place; `md5` in hexadecimal where published."""

    file: str
    url: str = ""
    drive_id: str = ""
    md5: str = ""

    @property
    def place(self) -> str:
        """The address a person opens."""
        return f"https://drive.google.com/file/d/{self.drive_id}/view" if self.drive_id else self.url


_DOMAINNET = "https://csr.bu.edu/ftp/visda/2019/multi-source/"
_REMADE = ("clipart", "painting")  # the domains whose images the cleaned version replaced

LOCATIONS: dict[str, tuple[Archive, ...]] = {
    "cifar100": (
        Archive(
            "cifar-100-binary.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            md5="03b5dce01913d631647c71ecec9e9cb8",
        ),
    ),
    "fashion_mnist": tuple(
        Archive(file, f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{file}", md5=md5)
        for file, md5 in (
            ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    ),
    "cub200": (Archive("cub200.zip", drive_id="1XbUpnWpJPnItt5zQ6sHJnsjPncnNLvWb"),),
    "imagenet_r": (Archive("imagenet_r.zip", drive_id="1SG4TbiL8_DooekztyCVK8mPmfhMo8fkR"),),
    "imagenet_a": (Archive("imagenet_a.zip", drive_id="19l52ua_vvTtttgVRziCZJjal0TPE9f2p"),),
    "omnibenchmark": (Archive("omnibenchmark.zip", drive_id="1AbCP3zBMtv_TDXJypOCnOgX8hJmvJm3u"),),
    "vtab": (Archive("vtab.zip", drive_id="1xUiwlnx4k0oDhYi26KL5KwrCAya-mvJ_"),),
    "domainnet": (
        *(Archive(name, f"{_DOMAINNET}domainnet/txt/{name}") for name in DOMAIN_LISTS),
        *(
            Archive(f"{domain}.zip", f"{_DOMAINNET}{'groundtruth/' if domain in _REMADE else ''}{domain}.zip")
            for domain in DOMAINS
        ),
    ),
}
