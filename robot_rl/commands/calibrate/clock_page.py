"""A page with a clock for cameras to film: the card of `hardware/cameras/filmed_clock.py`.

The browser draws it anew for every frame of the screen, since only the browser knows when that is.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from hardware.cameras.filmed_clock import EDGE_CELLS
from hardware.cameras.pattern import BLACK, DATA_COLUMNS, ROWS, WHITE
from robot_rl.core.errors import RobotRLError

CELLS_SCRIPT = """
function crc16(bytes) {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = ((crc & 0x8000) ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc;
}
function cells(stampNs) {
  const bytes = [];
  for (let shift = 56n; shift >= 0n; shift -= 8n) bytes.push(Number((stampNs >> shift) & 255n));
  const crc = crc16(bytes);
  const bits = [...bytes, crc >> 8, crc & 255].flatMap(byte => [7, 6, 5, 4, 3, 2, 1, 0].map(bit => (byte >> bit) & 1));
  const rows = [];
  for (let row = 0; row < LAYOUT.rows; row++) {
    const data = bits.slice(row * LAYOUT.dataColumns, (row + 1) * LAYOUT.dataColumns);
    rows.push([row % 2 == 0 ? 1 : 0, ...data, row % 2 == 0 ? 0 : 1]);
  }
  return rows;
}
"""
"""Row by row which cells are white, as `hardware.cameras.pattern.write_stamp` draws them."""

_DRAW_SCRIPT = """
const canvas = document.querySelector('canvas'), pen = canvas.getContext('2d', {alpha: false, desynchronized: true});
function fill(grey, x, y, width, height) {
  pen.fillStyle = `rgb(${grey},${grey},${grey})`;
  pen.fillRect(x, y, width, height);
}
function draw() {
  canvas.width = innerWidth; canvas.height = innerHeight;
  const grid = cells(BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n);
  const columns = LAYOUT.dataColumns + 2 + 2 * LAYOUT.edge, rows = LAYOUT.rows + 2 * LAYOUT.edge;
  const cell = Math.floor(Math.min(innerWidth / (columns + 2), innerHeight / (rows + 2)));
  const left = Math.floor((innerWidth - columns * cell) / 2), top = Math.floor((innerHeight - rows * cell) / 2);
  fill(0, 0, 0, innerWidth, innerHeight);
  fill(255, left, top, columns * cell, rows * cell);
  fill(0, left + cell, top + cell, (columns - 2) * cell, (rows - 2) * cell);
  grid.forEach((row, y) => row.forEach((white, x) =>
    fill(white ? LAYOUT.white : LAYOUT.black,
         left + (x + LAYOUT.edge) * cell, top + (y + LAYOUT.edge) * cell, cell, cell)));
  requestAnimationFrame(draw);
}
draw();
"""


def layout_script() -> str:
    """The card's layout, for both scripts."""
    layout = {"rows": ROWS, "dataColumns": DATA_COLUMNS, "edge": EDGE_CELLS, "black": BLACK, "white": WHITE}
    return f"const LAYOUT = {json.dumps(layout)};\n"


def page() -> str:
    """The whole page; it needs nothing from the network."""
    return (
        '<!doctype html><meta charset="utf-8"><title>robot-rl clock</title>'
        "<style>html, body {margin: 0; background: #000; overflow: hidden} canvas {display: block}</style>"
        f"<canvas></canvas><script>{layout_script()}{CELLS_SCRIPT}{_DRAW_SCRIPT}</script>\n"
    )


class ClockPage:
    """Serves the page on this computer while it is entered.

    Args:
        port: 0 for any that is free.

    Raises:
        RobotRLError: The port is taken.
    """

    def __init__(self, port: int) -> None:
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise RobotRLError(
                f"port {port} for the clock's page: {error.strerror}; choose another with port="
            ) from error
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="clock page", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = page().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing: the terminal belongs to the person."""
