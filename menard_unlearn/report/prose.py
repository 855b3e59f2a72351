"""How to read each part of the page, in plain words. Written as HTML; nothing of a study enters here."""

from __future__ import annotations

METHODS = """\
A row is a run. <b>base</b> is the untouched model, <b>gold</b> one that was trained without what is to be
forgotten: a method does well when its row comes close to gold’s. Arrows say which way is better. A year stands only
where the data pin it; elsewhere the status says why there is none, and – marks what could not be measured."""

YEARS = """\
Share of probes that the model answers, by the year of the fact asked for. Forgetting what came after the cutoff,
and nothing else, is a curve that follows <b>base</b> on the left and drops to <b>gold</b> in the shaded years. A
curve that is low everywhere is damage; one that drops far from the cutoff has another cutoff than the one asked
for."""

CUTOFFS = """\
A point is the year after which knowledge ends, with its 95 % interval; a row without a point says why there is none.
On the left what the method took away, item by item, from what the base knew; on the right what the model answers at
all, which its base’s own gaps enter."""

PARETO = """\
Upper left is better: little recalled of what was to be forgotten, much of what was to be kept. The dotted line is
the front: no other run beats those on it in both respects, which a destroyed model at the lower left shares with a
good one. The second figure shows facts that no method saw: only where points move left there has forgetting spread
beyond the list it was given."""

LOSSES = """\
Each named term of a method’s loss during unlearning, per token or item, as it was descended. A term that runs off
without bound is how plain gradient ascent comes to collapse. Terms of different methods have different scales."""

TARGET = """\
How probable the model finds each token of the target when it is given all tokens before it. Dark (bright on a dark
page) means that it would write the token itself; pale, that it has to be told. Point at a token for its rank among
all tokens and its log-probability."""

NUMBERED = " The text is not published, so cells show the tokens’ numbers in place of their words."

FIRST_SEEDS = " Of each method the run with the first seed is shown."

UNMEASURED = "No run has been measured for this yet."

FAILED = "A figure could not be drawn; the table and the texts are complete."

NO_SCRIPT = "The figures need JavaScript; the table and the texts do without."

SOURCES = """\
Nothing here was fetched from a network. Every run’s <code>config.yaml</code> holds all of its settings. Figures are
drawn by plotly.js, copyright Plotly, Inc., under the MIT licence."""
