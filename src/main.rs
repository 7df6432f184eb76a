//! The program: everything is in the library.

/// A node keeps small allocations of very different lifetimes side by side: values for hours, the buffers of a request for
/// microseconds. An allocator that gives each size pages of its own does not let the one tear holes into the other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ggcache::cli::run()
}
