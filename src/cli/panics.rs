//! What a panic prints.

use std::panic;

use super::output::complain;

/// Leaves panics that become errors of a model package to these. A program that ends at any panic, as the small ones for
/// boards do, says whose fault it is and ends as with any package that does not fit.
pub fn quiet_contained_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| match sextant::panic_is_contained() {
        true if cfg!(panic = "abort") => {
            let reason = info.payload_as_str().unwrap_or("it does not say why");
            complain(&format!(
                "the graph engine gave up on the model package: it is damaged, or not one that \
                 this build can run ({})",
                reason.replace('\n', " | ")
            ));
            std::process::exit(3);
        }
        true => {}
        false => usual(info),
    }));
}
