"""Make a small copy of the page of several replays (`wm train`, `wm replay`), to be kept in a
repository:

    python tools/ship_report.py out/train/report/NAME docs/reports/NAME

The page, `summary.json`, and the page's pictures as WebP files beside it, a quarter of the bytes.
Pages of single bags and films stay behind, and their links with them.
"""

from __future__ import annotations

import argparse
import base64
import re
from pathlib import Path

import cv2
import numpy as np

PICTURE = re.compile(r'data:image/(?:jpeg|png);base64,([A-Za-z0-9+/=]+)')
LINK = re.compile(r'<a href="[^"]*/report\.html">([^<]*)</a>')
QUALITY = 50


def webp(data: bytes) -> bytes:
    """Return a JPEG or PNG as WebP."""
    picture_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture_HWC is None:
        raise ValueError('the page holds a picture that cannot be read')
    done, smaller = cv2.imencode('.webp', picture_HWC, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    if not done:
        raise ValueError(f'cannot write a picture of shape {picture_HWC.shape} as WebP')
    return smaller.tobytes()


def main() -> int:
    """Write the small copy and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('report', type=Path, help='folder with index.html and summary.json')
    parser.add_argument('out', type=Path, help='folder, made if missing; an earlier copy goes')
    options = parser.parse_args()
    if options.out.resolve() == options.report.resolve():
        parser.error(f'{options.out} is the report itself')
    page = (options.report / 'index.html').read_text(encoding='utf-8')
    files = {'summary.json': (options.report / 'summary.json').read_bytes()}

    def beside(found: re.Match[str]) -> str:
        name = f'{len(files):02d}.webp'
        files[name] = webp(base64.b64decode(found[1]))
        return name

    files['index.html'] = LINK.sub(r'\1', PICTURE.sub(beside, page)).encode()
    options.out.mkdir(parents=True, exist_ok=True)
    for earlier in options.out.glob('[0-9][0-9].webp'):
        earlier.unlink()
    for name, data in files.items():
        (options.out / name).write_bytes(data)
    size = sum(map(len, files.values())) / 1000
    print(f'{options.out}: {len(files) - 2} pictures, {size:.0f} kB in all')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
