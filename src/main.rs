//! The `mimi-node` binary: arguments in, one clear line out when something is wrong.

use std::process::ExitCode;

fn main() -> ExitCode {
    mimi_node::logging::keep_places_short();
    mimi_node::cli::main()
}
