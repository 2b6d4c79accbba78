//! Man pages and completions, below a directory that is laid out as `/usr/share`.

use std::fs;
use std::io;
use std::path::Path;

use clap_complete::Shell;

/// Writes all of them. What is there of an earlier time is removed.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(directory: &Path) -> io::Result<()> {
    let command = avocadoctl::command();
    let man = directory.join("man/man1");
    match fs::remove_dir_all(&man) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::create_dir_all(&man)?;
    clap_mangen::generate_to(command.clone(), &man)?;
    for (shell, place) in [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ] {
        let place = directory.join(place);
        fs::create_dir_all(&place)?;
        let file = clap_complete::generate_to(shell, &mut command.clone(), "avocadoctl", &place)?;
        if shell == Shell::Bash {
            // bash-completion looks for the name of the program.
            fs::rename(file, place.join("avocadoctl"))?;
        }
    }
    Ok(())
}
