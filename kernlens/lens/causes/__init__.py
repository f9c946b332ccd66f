"""Causes of failure: one function each, on the evidence of a table, its target and a head.

Thresholds were chosen on embeddings of Complete Journey and on digits, so that natural tables lie
below them and planted causes of moderate strength above. A cause that is found is a fact; whether
it is a fault is decided by what its remedy gains for the named head.
"""

from kernlens.lens.causes.cause import (
    ASKED,
    FACT,
    HEAD,
    NATURAL,
    Cause,
    Measure,
    Remedy,
)
from kernlens.lens.causes.columns import (
    anisotropy,
    collapse,
    column_scales,
    leak,
    quantised,
    rank_loss,
)
from kernlens.lens.causes.evidence import Evidence
from kernlens.lens.causes.heads import decoder_mismatch, gauge
from kernlens.lens.causes.labels import few_labels, no_signal, suspects
from kernlens.lens.causes.popularity import popularity_in_norms, starvation
from kernlens.lens.causes.rows import duplicates, outlier_rows, row_order, row_scales
from kernlens.lens.causes.versions import drift

CAUSES: dict[str, Cause] = {
    "outlier rows": Cause(
        outlier_rows, FACT, 0.002,
        "normal log lengths have none beyond the bound; heavier tails stay below 1 in 500",
        "A few rows are many times as long as the others.",
        "Standard deviations, means and distances become theirs, and all other rows look alike.",
        "Clip lengths, or find out where those rows come from.",
    ),
    "column scales": Cause(
        column_scales, FACT, 30.0,
        "natural embeddings stay below a ratio of 30",
        "One column has far more variance than the others.",
        "Distances, cosines and inner products read that column alone; heads that standardise do "
        "not mind.",
        "Standardise the columns, or drop the one.",
        ratio=True,
    ),
    "rank loss": Cause(
        rank_loss, FACT, 1e-9,
        "an exact dependence is never chance",
        "Some dimensions are constant or follow exactly from others.",
        "They carry nothing, and what was there before is lost.",
        "Look for a dead unit, a repeated column or a projection; no change of the table restores "
        "it.",
    ),
    "quantised": Cause(
        quantised, FACT, 0.25,
        "float32 columns have as many values as rows, 8 bits below the fourth root of a million",
        "Columns have few distinct values.",
        "Rows that differed become equal, and small differences are lost.",
        "Keep more bits, or quantise after standardising; no change of the table restores them.",
    ),
    "duplicates": Cause(
        duplicates, FACT, 0.01,
        "fewer than 1% of copies move a metric by less than its interval",
        "Rows repeat.",
        "A random split puts copies on both sides, and what it shows is memory; predictions here "
        "hold copies together.",
        "Split by group, or keep one row of each.",
    ),
    "row order": Cause(
        row_order, FACT, 0.2,
        "a fifth beyond chance is never met by shuffled rows",
        "Rows stand in the order of their labels.",
        "A split or a batch in row order sees some classes only; predictions here shuffle.",
        "Shuffle before splitting.",
    ),
    "no signal": Cause(
        no_signal, FACT, 5.0,
        "5 standard deviations, for the many tables that are looked at",
        "The rows have no relation to the labels.",
        "Every head will answer the shares of the classes.",
        "Check the join of rows and labels first, then take another embedding.",
        lower=True,
    ),
    "starvation": Cause(
        starvation, FACT, 0.3,
        "natural embeddings keep more than a third of the signal in rare items",
        "Rare items have hardly any signal, frequent ones do.",
        "Their rows stayed near where training began.",
        "Train longer, sample rare items more, or add content; shrinking them towards the mean "
        "helps some heads.",
        lower=True,
    ),
    "few labels": Cause(
        few_labels, FACT, 0.1,
        "a tenth of the classes weighs a tenth of macro-F1",
        "Classes have fewer than 21 rows.",
        "They are learnt from a handful and judged by a handful; macro-F1 hangs on them.",
        "Label more rows of these classes, or merge them.",
    ),
    "anisotropy": Cause(
        anisotropy, NATURAL, 0.5,
        "half of the mean square",
        "All rows share one direction.",
        "Cosines become alike and inner products favour some classes; most embeddings have it, "
        "and linear heads with an intercept do not mind.",
        "Subtract the mean; do not remove the top direction, which carries signal.",
    ),
    "row scales": Cause(
        row_scales, NATURAL, 0.5,
        "a factor of 1.6 to either side",
        "Rows differ much in length.",
        "Long rows weigh more in means and in training; often length is information.",
        "Bring rows to unit length where that gains.",
    ),
    "popularity in norms": Cause(
        popularity_in_norms, NATURAL, 0.3,
        "a third of the variance",
        "A row's length tells how often its item was met.",
        "Inner products then rank by popularity.",
        "Take it out where that gains.",
    ),
    "collapse": Cause(
        collapse, NATURAL, 0.8,
        "four fifths of the directions unused",
        "Variance concentrates in few directions.",
        "Signal in the others is hidden from distances and from penalised heads.",
        "Whiten where that gains; else train longer or with more negatives.",
    ),
    "leak": Cause(
        leak, ASKED, 0.9,
        "natural columns stay below",
        "One column nearly says the class.",
        "Either it is a good feature, or it was made from the label and will not be there when "
        "serving.",
        "Ask where the column comes from.",
    ),
    "suspect labels": Cause(
        suspects, ASKED, 0.1,
        "a tenth; poor embeddings of items reach two tenths, and so the cause is asked",
        "Rows have labels that the other rows contradict.",
        "Wrong labels, rows joined to the wrong item, and classes that overlap look the same in "
        "one table. Leaving such rows out gains on clean tables too, so a gain proves nothing.",
        "Look at the worst rows; an older version or texts of the items tell the three apart.",
    ),
    "drift": Cause(
        drift, NATURAL, 0.1,
        "a rotation serves an old head where it explains nine tenths",
        "The table differs from its reference by more than a rotation.",
        "Heads of the reference do not serve it; another seed alone leaves some 40% unexplained.",
        "See kernlens upgrade; go back where the reference was better.",
    ),
    "decoder mismatch": Cause(
        decoder_mismatch, HEAD, 0.01,
        "less would not be seen in one training",
        "Another head reads more from these rows.",
        "What is there is not reached by the named head.",
        "Take the other head if it can be served.",
    ),
    "gauge": Cause(
        gauge, NATURAL, 0.3,
        "three answers in ten",
        "A cosine head's answers hang on the scale of each column.",
        "Training by inner products leaves that scale open, so it is an accident of the run "
        "(Steck, Ekanadham and Kallus, 2024).",
        "Train with the cosine, fix the gauge by whitening, or read by inner products.",
    ),
}  # fmt: skip
"""Causes by name, in the order in which equal ones are shown."""

__all__ = [
    "ASKED", "CAUSES", "FACT", "HEAD", "NATURAL", "Cause", "Evidence", "Measure", "Remedy",
]  # fmt: skip
