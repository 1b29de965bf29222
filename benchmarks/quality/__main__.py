"""How good `ask` and `summarize` are beside their peers: `python -m benchmarks.quality qa|files|summary|blind`."""

from __future__ import annotations

from benchmarks.quality.eval_blind import blind
from benchmarks.quality.eval_files import files
from benchmarks.quality.eval_qa import qa
from benchmarks.quality.eval_summary import summary
from famcli.cli.main import make_app

app = make_app(
    {"qa": qa, "files": files, "summary": summary, "blind": blind}, "Judge `ask` and `summarize` beside their peers."
)

if __name__ == "__main__":
    app(prog_name="benchmarks.quality")
