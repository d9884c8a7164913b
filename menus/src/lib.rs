//! Templates and what they are rendered to.
