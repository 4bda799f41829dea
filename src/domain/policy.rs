//! Which addresses destinations may be dialled at: the guard against requests forged through us.
