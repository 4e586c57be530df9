//! `mq completions` and `mq man`: what shells and `man` show of the commands.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap_complete::Shell;
use clap_mangen::Man;

use crate::Outcome;
use crate::commands::command;
use crate::program::Program;
use crate::stdout::stdout;

/// Flags of `mq completions`.
#[derive(clap::Args)]
pub(crate) struct Completions {
    /// Shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Flags of `mq man`.
#[derive(clap::Args)]
pub(crate) struct ManPages {
    /// Command to show; mq itself without it. A terminal shows it in man, all else gets the page for man -l
    /// -
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Option<String>,
    /// Folder to write all pages to, as mq.1, mq-pub.1 and so on; made if there is none
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Prints a script for the shell.
pub(crate) fn run(options: Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command(Program::named(None)), "mq", &mut script);
    // Who reads it may have seen enough.
    let _ = stdout().write_all(&script);
    Ok(0)
}

/// Prints a page, or writes all.
pub(crate) fn run_man(options: ManPages) -> Outcome {
    let whole = command(Program::named(None));
    if let Some(folder) = &options.out {
        let failed = |path: &Path, error: io::Error| format!("--out {}: {error}", path.display());
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        let names =
            whole.get_subcommands().filter(|one| !one.is_hide_set()).map(|one| one.get_name().to_owned());
        for name in std::iter::once(None).chain(names.map(Some)) {
            let path = folder.join(match &name {
                None => "mq.1".to_owned(),
                Some(name) => format!("mq-{name}.1"),
            });
            std::fs::write(&path, page(&whole, name.as_deref())?).map_err(|error| failed(&path, error))?;
        }
        return Ok(0);
    }
    let name = options.command.as_deref();
    let page = page(&whole, name)?;
    // Who reads it may have seen enough.
    let _ = match io::stdout().is_terminal() {
        // Nobody reads troff: without `man` there is the same as help.
        true if !read_with_man(&page) => write!(stdout(), "{}", help(whole, name)),
        true => Ok(()),
        false => stdout().write_all(&page),
    };
    Ok(0)
}

/// Shows a page in `man`, which pages it by MANPAGER or PAGER. Returns whether that is here and did.
fn read_with_man(page: &[u8]) -> bool {
    let man = Command::new("man").args(["-l", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut man) = man else { return false };
    // One that ends early has closed the pipe.
    let _ = man.stdin.take().map(|mut stdin| stdin.write_all(page));
    man.wait().is_ok_and(|status| status.success())
}

fn help(mut whole: clap::Command, name: Option<&str>) -> String {
    whole.build();
    let command = match name {
        Some(name) => whole.find_subcommand_mut(name).map(|found| found.render_long_help()),
        None => None,
    };
    command.unwrap_or_else(|| whole.render_long_help()).to_string()
}

fn page(whole: &clap::Command, name: Option<&str>) -> Result<Vec<u8>, String> {
    let command = match name {
        None => whole.clone(),
        Some(name) => {
            let found = whole.get_subcommands().find(|one| one.get_name() == name);
            let found = found.ok_or_else(|| format!("there is no command {name}: `mq --help` lists them"))?;
            let shown = format!("mq-{name}");
            found
                .clone()
                .version(env!("CARGO_PKG_VERSION"))
                .display_name(shown)
                .bin_name(format!("mq {name}"))
        }
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(|error| error.to_string())?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let whole = command(Program::named(None));
        for one in whole.get_subcommands().filter(|one| !one.is_hide_set()) {
            let text = String::from_utf8(page(&whole, Some(one.get_name())).unwrap()).unwrap();
            assert!(text.contains("SYNOPSIS") && text.contains(one.get_name()), "{}", one.get_name());
        }
        assert!(page(&whole, Some("none")).is_err());
    }
}
