"""Parts of the experiment on training: what is swept, trained, predicted, told and drawn."""
