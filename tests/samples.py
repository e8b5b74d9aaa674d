"""Korean documents that the project wrote itself, in every format that is taken in, and questions about them.

They serve the demo and the tests. Each answer stands in one document only, and others speak of nearly the
same: a tank and a cooling tower that are both inspected, two gas rules, two budgets. One is grade C.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from tests.sources.hwp5 import hwp5_file

if TYPE_CHECKING:
    from appliance.format import Grade

Table = tuple[tuple[str, ...], ...]
#: A text is a paragraph, with ``# `` before it a heading; a tuple of tuples is a table; ``PAGE`` ends a page.
Part = str | Table
PAGE = "\f"


@dataclass(frozen=True, slots=True)
class Sample:
    """One document; its format follows from its name's ending."""

    name: str
    grade: Grade
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks, the document that answers, and words that its passage must hold."""

    words: str
    name: str
    expected: tuple[str, ...]
    place: str


SAMPLES = (
    Sample(
        "액체질소탱크-점검지침.hwp",
        "S",
        (
            "# 액체질소 탱크 점검 지침",
            "이 지침은 연구동 지하에 있는 액체질소 저장 탱크를 안전하게 관리하기 위하여 정한다.",
            "액체질소 탱크의 점검 주기는 45일이며 담당 부서는 설비안전팀이다.",
            "점검 결과에 이상이 있으면 그날 안에 안전관리자에게 알리고 사용을 멈춘다.",
            "산소 농도가 18퍼센트보다 낮으면 아무도 들어가지 않는다.",
        ),
    ),
    Sample(
        "냉각탑-점검지침.hwp",
        "S",
        (
            "# 냉각탑 점검 지침",
            "옥상 냉각탑의 점검 주기는 20일이며 담당 부서는 시설운영팀이다.",
            (
                ("부품", "교체 시기", "규격"),
                ("송풍기 벨트", "18개월", "B-62"),
                ("순환수 여과기", "3개월", "200 메시"),
                ("수위 감지기", "4년", "24 V"),
            ),
            "순환수의 전기 전도도는 매주 재고 기록한다.",
        ),
    ),
    Sample(
        "비상대응-안내서.hwpx",
        "S",
        (
            "# 비상 대응 안내서",
            "가스 누출 경보가 울리면 작업을 멈추고 제3 대피소로 이동한다.",
            "화재 경보에는 승강기를 쓰지 않고 동쪽 계단으로 내려간다.",
            (
                ("상황", "연락처", "책임자"),
                ("가스 누출", "내선 7119", "설비안전팀 당직"),
                ("정전", "내선 7240", "전기실 당직"),
                ("침수", "내선 7305", "시설운영팀 당직"),
            ),
            "대피가 끝나면 부서장은 15분 안에 인원을 확인하여 상황실에 보고한다.",
        ),
    ),
    Sample(
        "질소용기-운반수칙.hwpx",
        "O",
        (
            "# 질소 용기 운반 수칙",
            "액체질소 용기를 옮길 때에는 보안면과 극저온용 장갑을 착용한다.",
            "용기는 가득 채우지 않고 80퍼센트까지만 담는다.",
            "승강기에는 용기만 싣고 사람은 함께 타지 않는다.",
        ),
    ),
    Sample(
        "출장비-지급규정.pdf",
        "O",
        (
            "# 출장비 지급 규정",
            "이 규정은 임직원의 국내 출장과 국외 출장에 드는 비용을 정한다.",
            "일비는 하루 25,000원으로 하고, 회사 차량을 쓰면 절반만 지급한다.",
            PAGE,
            "# 숙박비와 교통비",
            "국내 출장의 숙박비 상한은 1박에 93,000원이며 광역시는 12,000원을 더한다.",
            "철도는 일반실 요금을, 항공은 할인 운임을 기준으로 한다.",
            PAGE,
            "# 정산",
            "출장을 마친 날부터 9일 안에 영수증을 붙여 정산한다.",
        ),
    ),
    Sample(
        "보안위원회-회의록.docx",
        "C",
        (
            "# 제7차 보안위원회 회의록",
            "참석자는 위원장을 포함하여 여섯 명이고 장소는 본관 회의실이다.",
            "# 의결 사항",
            "망연계 장비 교체 예산은 3억 7천만 원으로 의결하였다.",
            "교체는 통신보안과가 맡고 내년 3월까지 마친다.",
            "# 다음 회의",
            "다음 회의는 분기 마지막 달 둘째 주 목요일에 연다.",
        ),
    ),
    Sample(
        "정보보호-생활수칙.docx",
        "O",
        (
            "# 정보보호 생활 수칙",
            "비밀번호는 열한 자 이상으로 하고 90일마다 바꾼다.",
            "자리를 비울 때에는 화면을 잠근다.",
            "# 보관 기간",
            (
                ("기록", "보관 기간"),
                ("출입 기록", "3년"),
                ("접속 기록", "2년"),
                ("영상 기록", "30일"),
            ),
        ),
    ),
    Sample(
        "휴가-안내.md",
        "O",
        (
            "# 휴가 안내",
            "쓰지 않은 연차는 다음 해로 최대 6일까지 넘길 수 있다.",
            "# 경조사",
            "자녀가 결혼하면 하루, 본인이 결혼하면 닷새를 준다.",
        ),
    ),
    Sample(
        "구매-절차.txt",
        "O",
        (
            "구매 절차",
            "추정 금액이 2,200만 원보다 적으면 한 곳의 견적만으로 계약할 수 있다.",
            "예산은 부서 운영비에서 쓰고, 장비를 교체할 때에는 불용 처리를 먼저 한다.",
        ),
    ),
)

QUESTIONS = (
    Question(
        "액체질소 탱크는 며칠마다 점검하고 어느 부서가 담당합니까?",
        "액체질소탱크-점검지침.hwp",
        ("45일", "설비안전팀"),
        "1절",
    ),
    Question("냉각탑 점검은 어느 부서에서 하나요?", "냉각탑-점검지침.hwp", ("20일", "시설운영팀"), "1절"),
    Question("송풍기 벨트는 언제 교체합니까?", "냉각탑-점검지침.hwp", ("송풍기 벨트", "18개월"), "표 1"),
    Question("가스가 누출되면 어디로 대피해야 하나요?", "비상대응-안내서.hwpx", ("제3 대피소",), "1절"),
    Question(
        "정전일 때 연락할 내선 번호를 알려 주세요.", "비상대응-안내서.hwpx", ("정전", "내선 7240"), "표 1"
    ),
    Question(
        "액체질소 용기를 옮길 때 무엇을 착용하나요?", "질소용기-운반수칙.hwpx", ("극저온용 장갑",), "1절"
    ),
    Question("국내 출장에서 숙박비는 얼마까지 받을 수 있나요?", "출장비-지급규정.pdf", ("93,000원",), "2쪽"),
    Question("출장 정산은 며칠 안에 해야 합니까?", "출장비-지급규정.pdf", ("9일",), "3쪽"),
    Question("망연계 장비를 교체하는 예산이 얼마인가요?", "보안위원회-회의록.docx", ("3억 7천만 원",), "2절"),
    Question("비밀번호는 며칠에 한 번 바꿔야 하나요?", "정보보호-생활수칙.docx", ("90일",), "1절"),
    Question("출입 기록의 보관 기간은 얼마입니까?", "정보보호-생활수칙.docx", ("출입 기록 | 3년",), "표 1"),
    Question("연차를 내년으로 며칠까지 넘길 수 있습니까?", "휴가-안내.md", ("6일",), "1절"),
    Question("견적을 한 곳에서만 받아도 되는 금액은?", "구매-절차.txt", ("2,200만 원",), "1절"),
)
#: The one that the demo asks, and whose passage must stand in the prompt: from a .hwp v5 file.
DEMO_QUESTION = QUESTIONS[0]


def write_samples(folder: Path) -> tuple[Path, ...]:
    """Write every sample into a folder; takes a second or two, for Chromium makes the PDF."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / sample.name for sample in SAMPLES)
    for path, sample in zip(paths, SAMPLES, strict=True):
        path.write_bytes(content_of(sample))
    return paths


def sample(name: str) -> Sample:
    return next(each for each in SAMPLES if each.name == name)


@cache
def content_of(sample: Sample) -> bytes:
    """Return the sample as a file in the format of its name."""
    return _WRITERS[PurePath(sample.name).suffix](sample)


def _hwp(sample: Sample) -> bytes:
    """Write v5: our own bytes where it is text alone, python-hwpx's where there is a table."""
    if all(isinstance(part, str) for part in sample.parts):
        return hwp5_file([str(part).removeprefix("# ") for part in sample.parts])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.hwp"
        _hwpx_document(sample).save_to_path(path)
        return path.read_bytes()


def _hwpx(sample: Sample) -> bytes:
    content: bytes = _hwpx_document(sample).to_bytes()
    return content


def _hwpx_document(sample: Sample):  # type: ignore[no-untyped-def] # noqa: ANN202 - HwpxDocument, heavy to import
    from hwpx import HwpxDocument  # noqa: PLC0415

    document = HwpxDocument.new()
    for part in sample.parts:
        if isinstance(part, str):
            document.add_paragraph(part.removeprefix("# "))
            continue
        table = document.add_table(len(part), len(part[0]))
        for row, cells in enumerate(part):
            for column, cell in enumerate(cells):
                table.set_cell_text(row, column, cell)
    return document


def _docx(sample: Sample) -> bytes:
    from docx import Document  # noqa: PLC0415

    document = Document()
    for part in sample.parts:
        if not isinstance(part, str):
            table = document.add_table(rows=len(part), cols=len(part[0]))
            for row, cells in zip(table.rows, part, strict=True):
                for box, cell in zip(row.cells, cells, strict=True):
                    box.text = cell
        elif part.startswith("# "):
            document.add_heading(part.removeprefix("# "), level=1)
        else:
            document.add_paragraph(part)
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def _pdf(sample: Sample) -> bytes:
    """Print by Chromium, so that the text layer is one that people's programs really write."""
    page = "<meta charset=utf-8><style>body{font-family:NanumGothic}</style>" + "".join(
        map(_html, sample.parts)
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "sample.html", Path(folder) / "sample.pdf"
        source.write_text(page, "utf-8")
        words = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
        quiet = ("--no-pdf-header-footer", f"--user-data-dir={folder}/profile", "--no-first-run")
        argv = ["chromium", *words, *quiet, f"--print-to-pdf={target}", source.as_uri()]
        subprocess.run(argv, check=True, capture_output=True, timeout=120)
        return target.read_bytes()


def _html(part: Part) -> str:
    if part == PAGE:
        return "<div style='break-after:page'></div>"
    if isinstance(part, str):
        tag = "h2" if part.startswith("# ") else "p"
        return f"<{tag}>{escape(part.removeprefix('# '))}</{tag}>"
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in part)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def _markdown(sample: Sample) -> bytes:
    return "\n\n".join(map(str, sample.parts)).encode()


def _cp949(sample: Sample) -> bytes:
    """Write as Windows of old does, which is how text files still arrive."""
    return "\r\n\r\n".join(map(str, sample.parts)).encode("cp949")


_WRITERS = {
    ".docx": _docx,
    ".hwp": _hwp,
    ".hwpx": _hwpx,
    ".md": _markdown,
    ".pdf": _pdf,
    ".txt": _cp949,
}
