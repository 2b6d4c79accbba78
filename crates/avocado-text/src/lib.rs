//! What people read on a terminal, the same from both programs: tables, amounts, durations, and
//! text from elsewhere that cannot act on the terminal.

mod amount;
mod safe;
mod table;

pub use amount::{bytes, count, duration};
pub use safe::{escape, escape_lines, is_unsafe, strip};
pub use table::table;
