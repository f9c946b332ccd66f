"""Released code that the scores here do not follow."""

PEERS: dict[str, str] = {
    "clf_kernel_score": "not proposition 1 (no norm); diagonal included; NaN where a row is zero",
    "stable_transfer": (
        "H-score multiplies elementwise before the trace: 19.1 on wine, where it is at most 2"
    ),
    "LogME (authors)": (
        "no bias; below full rank `D log(alpha)` counts all `D` directions, the determinant only "
        "those kept; tied to the scale by its epsilon and its start"
    ),
    "PACTran": "H-score and LEEP with the sign turned; LogME without `log(2 pi) / 2`",
    "TransRate": "the paper's listing weighs classes alike, the repository by their rows",
    "GBC, spherical": "the volume term once, not once per dimension (kept in `gbc_spherical`)",
    "PARC": (
        "rounding in one-hot correlations breaks the ties of label distances by class: 64.87 on "
        "wine for 64.55, and 27.11 on digits for 27.00, where it varies with the linear algebra "
        "library"
    ),
    "ETran": (
        "`eigh` of a matrix that is not symmetric returns an orthogonal basis, so its discriminant "
        "is the nearest class mean whatever the covariance"
    ),
    "SFDA": "overwrites the features that it is given",
    "graph_embedding": (
        "alpha-ReQ regresses on rank, not on log rank; its window for the fit's R² raises below "
        "14 dimensions"
    ),
    "avgemb": "its MRR is a mean rank; its NDCG discounts by the natural logarithm",
}
"""What is at fault in a peer's released code, or unlike the paper, by peer."""
