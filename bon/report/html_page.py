"""The HTML page that every report is: its style, and the pieces that several reports share."""

from html import escape

#: The content policy that a report carries: whatever markup got into it, it runs no script and requests nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

STYLE = """
:root{--bon-page:#f5f6f9;--bon-paper:#fff;--bon-ink:#14161d;--bon-soft:#4b5262;--bon-line:#e4e6ed;
--bon-accent:#4a3fd6;--bon-win-dot:#0a8674;--bon-mean:#a34a06;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--bon-page:#0e1015;--bon-paper:#161920;--bon-ink:#eceef4;--bon-soft:#b0b7c6;
--bon-line:#272c37;--bon-accent:#9d97ff;--bon-win-dot:#3fd0b6;--bon-mean:#f2b05c}}
body{margin:0 auto;max-width:960px;padding:32px 20px;background:var(--bon-page);color:var(--bon-ink);
font:16px/1.55 system-ui,sans-serif}
h1{font-size:26px;letter-spacing:-.02em}h2{font-size:18px;margin-top:36px}p{color:var(--bon-soft)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14.5px}
th,td{text-align:left;padding:8px 10px;border-bottom:1px solid var(--bon-line);vertical-align:top}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
figure{margin:16px 0;padding:16px;background:var(--bon-paper);border:1px solid var(--bon-line);border-radius:14px}
figcaption{font-weight:600;font-size:14px}
.turn{white-space:pre-wrap;margin:0 0 8px}.turn b{color:var(--bon-ink)}
.prompt,.end{color:var(--bon-soft)}.end{font:14px system-ui,sans-serif;white-space:nowrap}svg{width:100%;height:auto}
.narrow{display:none}@media(max-width:640px){.wide{display:none}.narrow{display:block}}
blockquote{margin:0 0 12px;font:400 26px/1.35 Charter,"Bitstream Charter",Cambria,Georgia,serif}
.big{font-size:34px;font-weight:650;letter-spacing:-.02em;color:var(--bon-ink)}
"""


def html_page(title: str, body: str) -> str:
    """A whole page around `body`, which is markup; it runs no script and loads nothing from elsewhere."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head><body>
{body}
</body></html>
"""


def prompt_and_text(prompt: str, text: str) -> str:
    """A prompt and what continues it, as markup that shows where one ends."""
    return f'<span class="prompt">{escape(prompt)}</span>{escape(text)}'


def number_cell(value: object) -> str:
    """A cell of a table, as markup, for a number, also one that a file names and that may be any text."""
    return f'<td class="n">{escape(str(value))}</td>'
