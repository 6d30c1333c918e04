//! The node's firewall: Docker's chains and rules, kept by `iptables-restore` in one run a change. [`rules`] says what
//! there is to be; this file knows what there is, and makes the difference. If `iptables-save` shows that rules of ours
//! are missing (a learner may have flushed everything), all is laid anew.

mod rules;

use crate::{Config, Networks, Result, bridge};
use drydock_runtime::program;
pub(crate) use rules::Family;
use rules::{OWN_CHAINS, Place, Rule, TABLES, Table, USER_CHAIN};
use std::{
    collections::HashSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::PoisonError,
};

/// What has been laid.
#[derive(Debug)]
pub(crate) struct Firewall {
    restore: PathBuf,
    save: PathBuf,
    /// `None`: nothing yet by this process.
    laid: Option<Vec<Rule>>,
    /// Traffic that nobody speaks for is not forwarded.
    drop_policy: bool,
}

impl Firewall {
    /// Nothing yet.
    pub fn new(config: &Config, drop_policy: bool) -> Self {
        let (restore, save) = (config.iptables_restore.clone(), config.iptables_save.clone());
        Self { restore, save, laid: None, drop_policy }
    }

    /// The same for IPv6, whose programs are beside those.
    pub fn ipv6(config: &Config) -> Self {
        let program = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.with_file_name(name.replacen("iptables", "ip6tables", 1))
        };
        let (restore, save) = (program(&config.iptables_restore), program(&config.iptables_save));
        Self { restore, save, laid: None, drop_policy: false }
    }

    fn update(&mut self, wanted: Vec<Rule>) -> Result<()> {
        if self.laid.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let present = program::feed(&self.save, &[], "")?;
        let script = match self.laid.take() {
            Some(laid) if stands(&present, &laid) => difference(&laid, &wanted),
            // The first time, or somebody has flushed everything.
            _ => anew(&present, &wanted, self.drop_policy),
        };
        program::feed(&self.restore, &["--noflush"], &script)?;
        self.drop_policy = false;
        self.laid = Some(wanted);
        Ok(())
    }
}

impl Networks {
    /// Makes the firewall fit the networks and ports as they are now. Waits for a program, if there is something to change.
    pub(crate) fn update_firewall(&self) -> Result<()> {
        let mut firewall = self.shared.firewall.lock().unwrap_or_else(PoisonError::into_inner);
        // Read with the lock held: of two changes at once, the second finds both in force or makes both so.
        let wanted = rules::wanted(&self.state(), Family::V4);
        firewall.update(wanted)?;
        drop(firewall);
        let mut firewall = self.shared.firewall6.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = rules::wanted(&self.state(), Family::V6);
        if firewall.laid.is_none() && !wanted.is_empty() {
            firewall.drop_policy = bridge::enable_ipv6_forwarding() == bridge::Forwarding::SwitchedOn;
        }
        if firewall.laid.is_some() || !wanted.is_empty() {
            // A kernel may be without; the proxies of published ports do not need them.
            let laid = firewall.update(wanted);
            laid.unwrap_or_else(|error| tracing::warn!(%error, "firewall rules of IPv6 networks"));
        }
        Ok(())
    }
}

/// Whether all rules are there.
fn stands(present: &str, laid: &[Rule]) -> bool {
    TABLES.iter().all(|table| {
        let lines: HashSet<&str> =
            rules_of(present, *table).filter_map(|line| line.strip_prefix("-A ")).collect();
        let mut rules = laid.iter().filter(|rule| rule.table == *table);
        rules.all(|rule| lines.contains(format!("{} {}", rule.chain, rule.spec).as_str()))
    })
}

/// Commands that make `wanted` of `laid`.
fn difference(laid: &[Rule], wanted: &[Rule]) -> String {
    let (before, after): (HashSet<&Rule>, HashSet<&Rule>) = (laid.iter().collect(), wanted.iter().collect());
    let mut script = String::new();
    for table in TABLES {
        let mut commands = String::new();
        for rule in laid.iter().filter(|rule| rule.table == table && !after.contains(rule)) {
            line(&mut commands, "-D", rule);
        }
        let new = || wanted.iter().filter(|rule| rule.table == table && !before.contains(rule));
        for rule in new().filter(|rule| rule.place == Place::Head) {
            line(&mut commands, "-I", rule);
        }
        for rule in new().filter(|rule| rule.place == Place::Tail) {
            line(&mut commands, "-A", rule);
        }
        add_table(&mut script, table, &commands);
    }
    script
}

/// Commands that make `wanted` of whatever `iptables-save` has shown. Rules of others are left alone.
fn anew(present: &str, wanted: &[Rule], drop_policy: bool) -> String {
    let mut script = String::new();
    for table in TABLES {
        let mut commands = String::new();
        if table == Table::Filter {
            if drop_policy {
                commands += ":FORWARD DROP [0:0]\n";
            }
            if !rules_of(present, table).any(|text| text.starts_with(&format!(":{USER_CHAIN} "))) {
                writeln(&mut commands, format_args!(":{USER_CHAIN} - [0:0]"));
            }
        }
        for (_, chain) in OWN_CHAINS.iter().filter(|(of, _)| *of == table) {
            // Made, or emptied if it is there.
            writeln(&mut commands, format_args!(":{chain} - [0:0]"));
        }
        for text in rules_of(present, table).filter_map(|text| text.strip_prefix("-A ")) {
            if rules::is_ours(table, text, wanted) {
                writeln(&mut commands, format_args!("-D {text}"));
            }
        }
        let of_table = || wanted.iter().filter(|rule| rule.table == table);
        for rule in of_table().filter(|rule| rule.place == Place::Head) {
            line(&mut commands, "-I", rule);
        }
        for rule in of_table().filter(|rule| rule.place == Place::Tail) {
            line(&mut commands, "-A", rule);
        }
        add_table(&mut script, table, &commands);
    }
    script
}

/// The lines of one table.
fn rules_of(present: &str, table: Table) -> impl Iterator<Item = &str> {
    let start = format!("*{}", table.name());
    present.lines().skip_while(move |line| *line != start).skip(1).take_while(|line| *line != "COMMIT")
}

fn add_table(script: &mut String, table: Table, commands: &str) {
    if !commands.is_empty() {
        writeln(script, format_args!("*{}\n{commands}COMMIT", table.name()));
    }
}

fn line(commands: &mut String, verb: &str, rule: &Rule) {
    writeln(commands, format_args!("{verb} {} {}", rule.chain, rule.spec));
}

fn writeln(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _infallible = std::writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(place: Place, spec: &str) -> Rule {
        Rule { table: Table::Filter, chain: "DOCKER", place, spec: spec.into() }
    }

    #[test]
    fn only_the_difference_is_laid() {
        let laid = [rule(Place::Head, "a"), rule(Place::Tail, "b")];
        let wanted =
            [rule(Place::Head, "c"), rule(Place::Head, "d"), rule(Place::Tail, "b"), rule(Place::Tail, "e")];
        let expected = "*filter\n-D DOCKER a\n-I DOCKER c\n-I DOCKER d\n-A DOCKER e\nCOMMIT\n";
        assert_eq!(difference(&laid, &wanted), expected);
        assert_eq!(difference(&wanted, &wanted), "");
    }

    #[test]
    fn laying_anew_leaves_the_rules_of_others() {
        let present = "*filter\n:FORWARD ACCEPT [0:0]\n:DOCKER-USER - [0:0]\n:DOCKER - [0:0]\n\
            -A FORWARD -j DOCKER-USER\n-A FORWARD -s 1.2.3.4/32 -j DROP\n-A DOCKER-USER -j RETURN\n\
            -A DOCKER -j DROP\nCOMMIT\n*nat\n-A POSTROUTING -s 10.9.0.0/16 ! -o eth0 -j MASQUERADE\n\
            -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\nCOMMIT\n";
        let script = anew(present, &[rule(Place::Tail, "b")], true);
        assert!(script.starts_with("*filter\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n"), "{script}");
        let deleted: Vec<&str> = script.lines().filter(|line| line.starts_with("-D")).collect();
        let ours =
            ["-D FORWARD -j DOCKER-USER", "-D POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"];
        assert_eq!(deleted, ours);
        assert!(script.contains("\n-A DOCKER b\n") && !script.contains(":DOCKER-USER"), "{script}");
        assert!(
            anew("", &[], false).contains("\n:DOCKER-USER - [0:0]\n")
                && !anew("", &[], false).contains("DROP")
        );
    }
}
