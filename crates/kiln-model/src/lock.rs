//! `kiln.lock`.
