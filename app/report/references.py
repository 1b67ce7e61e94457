"""The publications that a report rests on, as text and as BibTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_ARXIV, _ARXIV_VENUE = "10.48550/arXiv.", "arXiv:"


@dataclass(frozen=True)
class Reference:
    key: str  # of the BibTeX entry
    authors: tuple[str, ...]  # family name, given name
    title: str
    venue: str
    year: int
    doi: str | None = None  # None: the publication has none, or none is known

    def to_text(self) -> str:
        """`Tanaka, M.: Learnable Image Encryption. ICCE-TW, 2018. Preprint:`, followed by the DOI if there is one."""
        names = [f"{family}, {given[0]}." for family, given in (name.split(", ") for name in self.authors)]
        preprint = " Preprint:" if self.doi and self.doi.startswith(_ARXIV) and _ARXIV_VENUE not in self.venue else ""
        return f"{', '.join(names)}: {self.title}. {self.venue}, {self.year}.{preprint}"

    def to_bibtex(self) -> str:
        fields = {
            "author": " and ".join(self.authors),
            "title": f"{{{self.title}}}",
            "howpublished": self.venue,
            "year": str(self.year),
            "doi": self.doi,
        }
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        return f"@misc{{{self.key},\n{lines}\n}}"


PAPER = Reference(
    "sirichotedumrong2020visual",
    ("Sirichotedumrong, Warit", "Kiya, Hitoshi"),
    "Visual Security Evaluation of Learnable Image Encryption Methods against Ciphertext-only Attacks",
    "arXiv:2010.06198",
    2020,
    "10.48550/arXiv.2010.06198",
)
_SSIM = Reference(
    "wang2004image",
    ("Wang, Zhou", "Bovik, Alan C.", "Sheikh, Hamid R.", "Simoncelli, Eero P."),
    "Image Quality Assessment: From Error Visibility to Structural Similarity",
    "IEEE Transactions on Image Processing 13(4)",
    2004,
    "10.1109/TIP.2003.819861",
)
_VIF = Reference(
    "sheikh2006image",
    ("Sheikh, Hamid R.", "Bovik, Alan C."),
    "Image Information and Visual Quality",
    "IEEE Transactions on Image Processing 15(2)",
    2006,
    "10.1109/TIP.2005.859378",
)
_TANAKA = Reference(
    "tanaka2018learnable",
    ("Tanaka, Masayuki",),
    "Learnable Image Encryption",
    "IEEE International Conference on Consumer Electronics-Taiwan",
    2018,
    "10.48550/arXiv.1804.00490",
)
_PIXELWISE = Reference(
    "sirichotedumrong2019privacy",
    ("Sirichotedumrong, Warit", "Maekawa, Takahiro", "Kinoshita, Yuma", "Kiya, Hitoshi"),
    "Privacy-Preserving Deep Neural Networks with Pixel-Based Image Encryption Considering Data Augmentation in the "
    "Encrypted Domain",
    "IEEE International Conference on Image Processing, pp. 674-678",
    2019,
    "10.48550/arXiv.1905.01827",
)
_TN_MODEL = Reference(
    "ito2020image",
    ("Ito, Hiroki", "Kinoshita, Yuma", "Kiya, Hitoshi"),
    "An Image Transformation Network for Privacy-Preserving Deep Neural Networks",
    "IEICE Technical Report 119(422), IE2019-75, pp. 195-200",
    2020,
)
_TN_GAN = Reference(
    "sirichotedumrong2020gan",
    ("Sirichotedumrong, Warit", "Kiya, Hitoshi"),
    "A GAN-Based Image Transformation Scheme for Privacy-Preserving Deep Neural Networks",
    "European Signal Processing Conference, pp. 745-749",
    2020,
    "10.48550/arXiv.2006.01342",
)
_CYCLE_GAN = Reference(
    "zhu2017unpaired",
    ("Zhu, Jun-Yan", "Park, Taesung", "Isola, Phillip", "Efros, Alexei A."),
    "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
    "IEEE International Conference on Computer Vision",
    2017,
    "10.48550/arXiv.1703.10593",
)
_ETC = Reference(
    "kurihara2015encryption",
    ("Kurihara, Kenta", "Shiota, Sayaka", "Kiya, Hitoshi"),
    "An Encryption-then-Compression System for JPEG Standard",
    "Picture Coding Symposium, pp. 119-123",
    2015,
)
_ETC_GRAY = Reference(
    "chuman2019encryption",
    ("Chuman, Tatsuya", "Sirichotedumrong, Warit", "Kiya, Hitoshi"),
    "Encryption-then-Compression Systems Using Grayscale-Based Image Encryption for JPEG Images",
    "IEEE Transactions on Information Forensics and Security 14(6), pp. 1515-1525",
    2019,
    "10.48550/arXiv.1811.00236",
)
_ELE = Reference(
    "madono2020block",
    ("Madono, Koki", "Tanaka, Masayuki", "Onishi, Masaki", "Ogawa, Tetsuji"),
    "Block-wise Scrambled Image Recognition Using Adaptation Network",
    "arXiv:2001.07761",
    2020,
    "10.48550/arXiv.2001.07761",
)
_BLOCKWISE = Reference(
    "maungmaung2021block",
    ("MaungMaung, AprilPyone", "Kiya, Hitoshi"),
    "Block-wise Image Transformation with Secret Key for Adversarially Robust Defense",
    "IEEE Transactions on Information Forensics and Security 16",
    2021,
    "10.48550/arXiv.2010.00801",
)
_VIT = Reference(
    "qi2022privacy",
    ("Qi, Zheng", "MaungMaung, AprilPyone", "Kinoshita, Yuma", "Kiya, Hitoshi"),
    "Privacy-Preserving Image Classification Using Vision Transformer",
    "European Signal Processing Conference",
    2022,
    "10.48550/arXiv.2205.12041",
)
_PARTIALFACE = Reference(
    "mi2023privacy",
    (
        "Mi, Yuxi",
        "Huang, Yuge",
        "Ji, Jiazhen",
        "Zhao, Minyi",
        "Wu, Jiaxiang",
        "Xu, Xingkun",
        "Ding, Shouhong",
        "Zhou, Shuigeng",
    ),
    "Privacy-Preserving Face Recognition Using Random Frequency Components",
    "IEEE/CVF International Conference on Computer Vision",
    2023,
    "10.48550/arXiv.2308.10461",
)
_MINUSFACE = Reference(
    "mi2024privacy",
    (
        "Mi, Yuxi",
        "Zhong, Zhizhou",
        "Huang, Yuge",
        "Ji, Jiazhen",
        "Xu, Jianqing",
        "Wang, Jun",
        "Wang, Shaoming",
        "Ding, Shouhong",
        "Zhou, Shuigeng",
    ),
    "Privacy-Preserving Face Recognition Using Trainable Feature Subtraction",
    "IEEE/CVF Conference on Computer Vision and Pattern Recognition, pp. 297-307",
    2024,
    "10.48550/arXiv.2403.12457",
)
_FR = Reference(
    "chang2020attacks",
    ("Chang, Alex Habeen", "Case, Benjamin M."),
    "Attacks on Image Encryption Schemes for Privacy-Preserving Deep Neural Networks",
    "arXiv:2004.13263",
    2020,
    "10.48550/arXiv.2004.13263",
)
_ITN = Reference(
    "sirichotedumrong2019security",
    ("Sirichotedumrong, Warit", "Kinoshita, Yuma", "Kiya, Hitoshi"),
    "On the Security of Pixel-Based Image Encryption for Privacy-Preserving Deep Neural Networks",
    "IEEE Global Conference on Consumer Electronics, pp. 123-126",
    2019,
)
_GAN = Reference(
    "madono2019adversarial",
    ("Madono, Koki", "Tanaka, Masayuki", "Onishi, Masaki", "Ogawa, Tetsuji"),
    "An Adversarial Attack to Learnable Encrypted Images",
    "IEICE Symposium on Image Recognition and Understanding",
    2019,
)

_BY_NAME: Mapping[str, tuple[Reference, ...]] = {
    "blockwise": (_BLOCKWISE,),
    "ele": (_ELE,),
    "etc": (_ETC, _ETC_GRAY),
    "minusface": (_MINUSFACE,),
    "partialface": (_PARTIALFACE,),
    "pixelwise": (_PIXELWISE,),
    "tanaka": (_TANAKA,),
    "tn-gan": (_TN_GAN, _CYCLE_GAN),
    "tn-model": (_TN_MODEL,),
    "vit-permutation": (_VIT,),
    "fr": (_FR,),
    "fr-sorted": (_FR,),
    "gan": (_GAN,),
    "itn": (_ITN,),
}


def references_of(names: Iterable[str]) -> list[Reference]:
    """What the paper, the metrics, and these schemes and attacks rest on, by author and year, each once."""
    found = dict.fromkeys([PAPER, _SSIM, _VIF, *(each for name in names for each in _BY_NAME.get(name, ()))])
    return sorted(found, key=lambda reference: (reference.authors, reference.year))
