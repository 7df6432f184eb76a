//! The public service, called without a network.
