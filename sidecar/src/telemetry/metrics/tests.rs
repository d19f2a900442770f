//! Facts about the metrics as a whole: what is counted is what is exposed, and within bounds.
