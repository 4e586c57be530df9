//! Go's flag grammar on top of clap: `-x v`, `-x=v`, `--x v`, `--x=v`, and switches that never take the next
//! argument; beside it `-n5`.

use std::collections::HashMap;
use std::ffi::OsString;

use clap::Command;

/// Rewrites `args` (the program's name first) so that clap reads them as Go's `flag` package would.
///
/// Every known flag comes out as `--name=value`; what is not a flag of the subcommand passes as it is, so
/// that clap can say what it thinks of it.
pub(crate) fn normalise(command: &Command, args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    let Some(first) = args.next() else { return out };
    let subcommand = first.to_str().and_then(|name| command.find_subcommand(name));
    out.push(match first.to_str() {
        Some("-version") => "--version".into(),
        Some("-help") => "--help".into(),
        _ => first,
    });
    let Some(subcommand) = subcommand else {
        out.extend(args);
        return out;
    };
    let flags = Flags::of(subcommand);
    while let Some(arg) = args.next() {
        if arg == "--" {
            out.push(arg);
            break;
        }
        out.push(flags.rewrite(arg, &mut args));
    }
    out.extend(args);
    out
}

/// Long names and one-letter names of a command's flags, each with its long form and whether it is a switch.
struct Flags(HashMap<String, (String, bool)>);

impl Flags {
    fn of(command: &Command) -> Self {
        let mut flags = HashMap::new();
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let switch = !arg.get_action().takes_values()
                || arg.get_num_args().is_some_and(|values| values.min_values() == 0);
            let short = arg.get_short().map(String::from);
            for name in [Some(long.to_owned()), short].into_iter().flatten() {
                flags.insert(name, (long.to_owned(), switch));
            }
        }
        Self(flags)
    }

    /// The long name and the number of `-n5`.
    fn short_number<'a>(&self, text: &'a str) -> Option<(&str, &'a str)> {
        let (name, number) = text.strip_prefix('-')?.split_at_checked(1)?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let (long, _) = self.0.get(name).filter(|(_, switch)| is_number && !switch)?;
        Some((long, number))
    }

    fn rewrite(&self, arg: OsString, rest: &mut impl Iterator<Item = OsString>) -> OsString {
        let Some(text) = arg.to_str() else { return arg };
        let Some(body) = text.strip_prefix("--").or_else(|| text.strip_prefix('-')) else { return arg };
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some((long, switch)) = self.0.get(name) else {
            if let Some((long, number)) = self.short_number(text) {
                return format!("--{long}={number}").into();
            }
            // `-nodeid` would be read as `-n odeid`: give clap the whole word to complain about.
            return if name.len() > 1 { format!("--{body}").into() } else { arg };
        };
        let mut out = OsString::from(format!("--{long}"));
        match value {
            Some(value) => out.push(format!("={value}")),
            None if *switch => {}
            None => {
                if let Some(next) = rest.next() {
                    out.push("=");
                    out.push(next);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    fn command() -> Command {
        Command::new("mq").subcommand(
            Command::new("serve")
                .arg(Arg::new("tcp").long("tcp-address"))
                .arg(Arg::new("max").short('n').long("max"))
                .arg(Arg::new("quiet").long("quiet").action(ArgAction::SetTrue))
                .arg(Arg::new("snappy").long("snappy").num_args(0..=1).require_equals(true)),
        )
    }

    #[track_caller]
    fn check(args: &[&str], expected: &[&str]) {
        let args = ["mq"].iter().chain(args).map(OsString::from);
        let expected: Vec<OsString> = ["mq"].iter().chain(expected).map(OsString::from).collect();
        assert_eq!(normalise(&command(), args), expected);
    }

    #[test]
    fn every_form_of_a_flag_is_the_same() {
        for form in [&["-tcp-address", "a:1"][..], &["--tcp-address", "a:1"], &["-tcp-address=a:1"]] {
            check(&[&["serve"], form].concat(), &["serve", "--tcp-address=a:1"]);
        }
        check(&["serve", "-n", "3", "--quiet"], &["serve", "--max=3", "--quiet"]);
        check(&["serve", "-n=3"], &["serve", "--max=3"]);
        check(&["serve", "-n35"], &["serve", "--max=35"]);
    }

    #[test]
    fn a_switch_never_takes_the_next_argument() {
        check(&["serve", "-quiet", "false"], &["serve", "--quiet", "false"]);
        check(&["serve", "-snappy", "x"], &["serve", "--snappy", "x"]);
        check(&["serve", "-snappy=false"], &["serve", "--snappy=false"]);
    }

    #[test]
    fn a_flag_takes_the_next_argument_even_if_it_starts_with_a_dash() {
        check(&["serve", "-tcp-address", "-quiet"], &["serve", "--tcp-address=-quiet"]);
        check(&["serve", "-tcp-address"], &["serve", "--tcp-address"]);
    }

    #[test]
    fn what_is_unknown_goes_to_clap_whole() {
        check(&["serve", "-nodeid=3"], &["serve", "--nodeid=3"]);
        check(&["serve", "-n3x"], &["serve", "--n3x"]);
        check(&["serve", "--n3"], &["serve", "--n3"]);
        check(&["serve", "--", "-quiet"], &["serve", "--", "-quiet"]);
        check(&["--version"], &["--version"]);
        check(&["-version"], &["--version"]);
        check(&["serve", "-version"], &["serve", "--version"]);
        check(&["-x", "serve"], &["-x", "serve"]);
    }
}
