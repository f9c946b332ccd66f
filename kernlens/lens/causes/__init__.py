"""Causes of failure: one function each, on the evidence of a table, its target and a head.

Thresholds were chosen on embeddings of Complete Journey and on digits, so that the natural ones lie
below them and planted causes of moderate strength above. A cause that is found is a fact; whether
it is a fault is decided by what its remedy gains for the named head. Reasons and paragraphs say
what follows from the statistic, and what was measured where that is said; other tables may differ.
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
        "a choice; of normal log lengths fewer than 1 in 10^8 lie beyond the bound",
        "A few rows are many times as long as the others.",
        "They dominate standard deviations, means and distances, so that the other rows look alike "
        "to a head that reads by these.",
        "Clip lengths, or find out where those rows come from.",
    ),
    "column scales": Cause(
        column_scales, FACT, 30.0,
        "the embeddings that it was chosen on stay below a ratio of 30",
        "One column has far more variance than the others.",
        "Distances, cosines and inner products read that column more than all others; heads that "
        "standardise do not mind.",
        "Standardise the columns, or drop the one.",
        ratio=True,
    ),
    "rank loss": Cause(
        rank_loss, FACT, 1e-9,
        "columns of real numbers do not depend exactly on one another by chance",
        "Some dimensions are constant or follow exactly from others.",
        "They say nothing that the others do not.",
        "Look for a dead unit, a repeated column or a projection; no change of the table restores "
        "what may have been lost.",
    ),
    "quantised": Cause(
        quantised, FACT, 0.25,
        "fewer values than n^(3/4) of n rows, such as 8 bits from 1,626 rows on",
        "Columns have few distinct values.",
        "Small differences between rows are lost; whether heads lose by it depends on the bits.",
        "Keep more bits, or quantise after standardising; no change of the table restores them.",
    ),
    "duplicates": Cause(
        duplicates, FACT, 0.01,
        "a choice; copies of 1% of the rows touch 2% of them at most",
        "Rows repeat.",
        "A random split puts copies on both sides, and what it shows is memory in part; "
        "predictions here hold copies together.",
        "Split by group, or keep one row of each.",
    ),
    "row order": Cause(
        row_order, FACT, 0.2,
        "a choice; of 1,000 shuffled rows in two equal classes it varies by 0.03",
        "Rows stand in the order of their labels.",
        "A split or a batch in row order sees some classes only; predictions here shuffle.",
        "Shuffle before splitting.",
    ),
    "no signal": Cause(
        no_signal, FACT, 5.0,
        "5 standard deviations, for the many tables that are looked at",
        "The means of the classes differ no more than those of shuffled labels.",
        "Heads that are linear or read class means will hardly do better than the shares of the "
        "classes; a relation of another kind is not excluded.",
        "Check the join of rows and labels first, then take another embedding.",
        lower=True,
    ),
    "starvation": Cause(
        starvation, FACT, 0.3,
        "the embeddings that it was chosen on keep more of the signal in rare items",
        "Rare items have hardly any signal, frequent ones do.",
        "Often their rows stayed near where training began.",
        "Train longer, sample rare items more, or add content. Shrinking them towards the mean is "
        "tried here; it brought little back where the signal was gone.",
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
        "Cosines become alike and inner products favour some classes; many healthy embeddings have "
        "it, and linear heads with an intercept do not mind.",
        "Subtract the mean where that gains. Removing the top direction instead harmed nearly "
        "always where it was tried.",
    ),
    "row scales": Cause(
        row_scales, NATURAL, 0.5,
        "a factor of 1.6 to either side",
        "Rows differ much in length.",
        "Long rows weigh more in means and in training; length may be information, too.",
        "Bring rows to unit length where that gains.",
    ),
    "popularity in norms": Cause(
        popularity_in_norms, NATURAL, 0.3,
        "a third of the variance",
        "A row's length tells how often its item was met.",
        "Inner products then favour what is popular.",
        "Take it out where that gains.",
    ),
    "collapse": Cause(
        collapse, NATURAL, 0.8,
        "four fifths of the directions unused",
        "Variance concentrates in few directions.",
        "The others weigh little in distances and inner products.",
        "Whiten where that gains.",
    ),
    "leak": Cause(
        leak, ASKED, 0.9,
        "the embeddings that it was chosen on have no such column",
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
        "Look at the worst rows; an older version or texts of the items help to tell which.",
    ),
    "drift": Cause(
        drift, NATURAL, 0.1,
        "where a rotation explained nine tenths, it served the old head (one pair of versions)",
        "The table differs from its reference by more than a rotation.",
        "Heads of the reference may not serve it.",
        "See kernlens upgrade; go back where the reference was better.",
    ),
    "decoder mismatch": Cause(
        decoder_mismatch, HEAD, 0.01,
        "a choice; one training commonly varies by more",
        "Another head reads more from these rows.",
        "The named head does not reach what another one does.",
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
