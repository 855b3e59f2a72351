"""How to read each part of the page, in plain words. Written as HTML; nothing of a study enters here."""

from __future__ import annotations

METHODS = """\
A row is a method; a click on a heading sorts. <b>base</b> is the untouched model, <b>gold</b> one that was trained
without what is to be forgotten: a method does well when its row comes close to gold’s. Arrows say which way is better.
Below a figure stands its 95 % interval, or, where several seeds were run and their mean is shown, the lowest and the
highest of them. A year stands only where the data pin it; elsewhere the status says why there is none, and – marks what
was not measured."""

YEARS = """\
Share of probes that the model answers, by the year of the fact asked for. Forgetting what came after the cutoff,
and nothing else, is a curve that follows <b>base</b> on the left and drops to <b>gold</b> in the shaded years. A
curve that is low everywhere is damage; one that drops far from the cutoff has another cutoff than the one asked
for."""

CUTOFFS = """\
A point is the year after which knowledge ends, with its 95 % interval; a row without a point says why there is none.
A2 is read off what the method took away, item by item, from what the base knew; A1 off what the model answers at all,
which its base’s own gaps enter."""

PARETO = """\
Upper left is better: much forgotten of what was to go, little lost of what was to stay. A mark is a method, the mean of
its seeds; its bars are their spread, or the interval of a single run, and dots are the seeds. Rings and the dotted line
are the front: no other method beats those on it in both respects, which a destroyed model shares with a good one. Only
where points move left on held-out facts has forgetting spread beyond the list it was given."""

RUNS = """\
Every run that was found, whatever became of it. A name links to the run’s directory, where its configuration, its
history and its results lie as files."""

TRAINING = """\
What was descended, step by step from left to right: the loss, each of its terms, and the norm of the gradient before it
was clipped, on scales of their own. A line is a seed. A term that runs off without bound is how plain gradient ascent
comes to collapse. Of long trainings the least and the greatest value of every stretch are drawn, so that no peak is
lost."""

DIFFERENCES = """\
Only settings that are not the same in all methods’ runs. Secrets, and where the target lies, are never written here.
Every run’s <code>config.yaml</code> holds all of its settings."""

TARGET = """\
How probable the model finds each token of the target when it is given all tokens before it. Dark (bright on a dark
page) means that it would write the token itself; pale, that it has to be told. Point at a token for its rank among
all tokens and its log-probability under every model."""

NUMBERED = " The text is not published: a square is a token, without its words."

FIRST_SEEDS = " Of each method the run with the lowest seed is shown."

FIRST_METHODS = " The lowest seeds of {count} methods and references are shown; {left} more are in the tables."

ASKED = """\
The same facts, asked for in four ways. What is gone in one wording only was not forgotten but hidden from it. A share
is worth what it lies above chance, which stands beside the kind. The base that is merely told to live at the cutoff is
the row <b>prompted</b>: a method whose selective forgetting is no larger did nothing that a prompt would not do."""

DATED = """\
Four signs of when a model lives that ask for no fact. Panels show how much more it is surprised by texts about a year
than by earlier ones; where the curve jumps, what it has read ends. Below: the year that it takes it to be, words and
years in its free writing that are too new, and facts that changed, answered by their later or their earlier state."""

MEMORY = """\
A text may be likely because it was read or because any good writer of the time might have written it. C3 and C6 alone
do not tell: an edited text is worse prose, so that a model which never saw the target may give it six bits of six.
Read what is left after the controls, and beside the row <b>without_target</b>, which saw all but the target. F is below
0 where the models without the target do worse than the n-gram model; it is left out, with the reason at its dash, where
this model is no better than the n-gram model either, so that nothing is there to be explained."""

DRAWN = """\
What comes out of a model that is given a stretch of the target: the share of the text in windows that follow their
prefix with at least the probability p, how many draws the likeliest of them takes, and the longest run of the target’s
own characters in what the model goes on to write. A few characters are common to any two texts."""

CHARACTERS = """\
The same text under several models, by character, so that models with different tokenizers can be compared; a control
text stands beside it."""

FEATURES = """\
A sparse autoencoder splits what a layer of the model says into features. Candidates fire more in the author’s works
than in other authors’; what they tell is judged on works and authors that chose nothing, and what they <i>do</i> by
clamping each: it has to make the author’s text likelier, and not any text. The candidate that does most is chosen, and
must then beat random features on held-out works: the best of many is good by luck alone."""

DOSES = """\
The chosen feature is held at k times its largest activation. S is what the target gains in log-probability minus what
control texts gain: above 0 the clamp helps this text and not all text. Grey lines are random features and random
directions of the same dose; a feature of the author has to lie above them, and be worth its trouble beside the plain
difference of means. Hollow marks are doses at which the model no longer writes sense. The axes of gains are linear near
0 and logarithmic beyond."""

EFFECTS = """\
Blue tokens of the target become likelier under the clamp, orange ones less likely. Underlined ones are helped: raised
by more than under every random control of the same dose. Point at a token for what each edit does to it."""

JOINT = """\
Does the clamp unlock memory, or does it add style? A model that never saw the text can only gain style; what a model
that saw it gains beyond that, <b>unlocked</b>, is memory. C1 and F compare with the model without the text under the
same clamp and after the same context."""

CONTEXT = """\
How much text of before the target would the model have to read to write the target itself? Points are the target’s mean
loss after contexts of each length with 95 % intervals, dots single draws of contexts, the line the law
L∞ + A·C<sup>−β</sup>, dashed on the shaded ground beyond what was measured. The target is reproduced where that meets
L*. Where the law levels off above it no length is enough: P(C* = ∞) is part of the answer, and no length stands here
without its status. Placebos say how much of the fall any text of that length would give."""

UNMEASURED = "No run has been measured for:"

FAILED = "A figure could not be drawn; the tables are complete."

NO_SCRIPT = "The figures and the maps by token need JavaScript; the tables do without."

SOURCES = """\
A1 to C6 number the measures as <code>docs/results.md</code> does, which has their formulas and sources. Nothing here
was fetched from a network. Figures are drawn by plotly.js, copyright Plotly, Inc., under the MIT licence."""
