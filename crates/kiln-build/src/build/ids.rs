//! The numeric ids of the lock while a build goes on: what stages may use, and what they add.
//!
//! A stage that makes a name for the first time has its number written down at once, for ever: before its layer counts.
//! Several classes that are built side by side take their turns for that, in the order of the plan, so that the numbers do
//! not depend on who is faster.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_model::event::Report;
use kiln_model::lock::Lock;
use kiln_store::MadeIds;

use crate::factory::{Factory, FactoryError};
use crate::ids::{self, Accounts, Agreement, Disagreement};
use crate::workplace::{FixedIds, StageError};

/// The ids of the lock and those that this build adds.
pub(super) struct SharedIds<'a> {
    factory: &'a Factory,
    report: &'a dyn Report,
    /// Whether nothing may be added.
    is_locked: bool,
    /// Those of the lock when the build began.
    first: FixedIds,
    state: Mutex<State>,
}

struct State {
    current: FixedIds,
    added: FixedIds,
}

/// What is to be done with a stage's ids.
#[derive(Debug)]
pub(super) enum Settled {
    /// The lock has them, now at least.
    Agreed,
    /// The stage is to run again, with these imposed.
    Again(FixedIds),
}

impl<'a> SharedIds<'a> {
    pub(super) fn new(factory: &'a Factory, lock: &Lock, is_locked: bool, report: &'a dyn Report) -> Self {
        let first = of_lock(lock);
        let state = Mutex::new(State { current: first.clone(), added: FixedIds::default() });
        Self { factory, report, is_locked, first, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a layer that made these may be used with those that made what is `beside`: each is the lock's, or new there.
    pub(super) fn allow(&self, made: &MadeIds, beside: &FixedIds) -> bool {
        let known = merged(self.state().current.clone(), beside);
        matches!(ids::check(&fixed(made), &known, &Accounts::default()), Agreement::Fine | Agreement::Append(_))
    }

    /// Whether the lock has them all.
    pub(super) fn has(&self, made: &FixedIds) -> bool {
        ids::check(made, &self.state().current, &Accounts::default()) == Agreement::Fine
    }

    /// What is imposed on a stage when it runs first: the same, however far other classes are by now.
    pub(super) fn imposed_first<'m>(&self, made_below: impl IntoIterator<Item = &'m MadeIds>) -> FixedIds {
        made_below.into_iter().fold(self.first.clone(), |imposed, made| merged(imposed, &fixed(made)))
    }

    /// Holds what a stage made, with `imposed` in force, against the lock, and writes down there what is new. `tree` is
    /// everybody in the tree afterwards.
    pub(super) fn settle(&self, made: &FixedIds, imposed: &FixedIds, tree: &Accounts) -> Result<Settled, StageError> {
        if self.has(made) {
            return Ok(Settled::Agreed);
        }
        let mut state = self.state();
        let claim = self.factory.claim(self.report).map_err(refused)?;
        // Another process may have written since.
        let lock = self.factory.lock().map_err(refused)?;
        let lock = lock.ok_or_else(|| StageError::Refused { message: "kiln.lock is gone".to_owned(), hint: None })?;
        let current = merged(of_lock(&lock), &state.added);
        let settled = match ids::check(made, &current, tree) {
            Agreement::Fine => Settled::Agreed,
            Agreement::Collision(free) => Settled::Again(merged(current.clone(), &free)),
            Agreement::Wrong(wrong) if wrong.iter().all(|wrong| is_imposed(imposed, wrong)) => {
                return Err(disagreement(&wrong));
            }
            Agreement::Wrong(_) => Settled::Again(current.clone()),
            Agreement::Append(names) if self.is_locked => return Err(locked(&names)),
            Agreement::Append(names) => {
                let mut lock = lock;
                lock.ids.append(&names.users, &names.groups);
                self.factory.write_lock(&claim, &lock).map_err(refused)?;
                state.added = merged(std::mem::take(&mut state.added), &names);
                state.current = merged(current, &names);
                return Ok(Settled::Agreed);
            }
        };
        state.current = current;
        Ok(settled)
    }

    /// What was added to the lock: `user nginx: 101`.
    pub(super) fn added(&self) -> Vec<String> {
        lines(&self.state().added)
    }
}

fn of_lock(lock: &Lock) -> FixedIds {
    FixedIds { users: lock.ids.users.clone(), groups: lock.ids.groups.clone() }
}

pub(super) fn merged(mut ids: FixedIds, more: &FixedIds) -> FixedIds {
    let add = |to: &mut BTreeMap<String, u32>, from: &BTreeMap<String, u32>| {
        to.extend(from.iter().map(|(name, id)| (name.clone(), *id)));
    };
    add(&mut ids.users, &more.users);
    add(&mut ids.groups, &more.groups);
    ids
}

fn is_imposed(imposed: &FixedIds, wrong: &Disagreement) -> bool {
    let ids = if wrong.kind == "user" { &imposed.users } else { &imposed.groups };
    ids.get(&wrong.name) == Some(&wrong.locked)
}

pub(super) fn fixed(made: &MadeIds) -> FixedIds {
    FixedIds { users: made.users.clone(), groups: made.groups.clone() }
}

pub(super) fn made(fixed: FixedIds) -> MadeIds {
    MadeIds { users: fixed.users, groups: fixed.groups }
}

fn lines(ids: &FixedIds) -> Vec<String> {
    let users = ids.users.iter().map(|(name, id)| format!("user {name}: {id}"));
    users.chain(ids.groups.iter().map(|(name, id)| format!("group {name}: {id}"))).collect()
}

fn disagreement(wrong: &[Disagreement]) -> StageError {
    let message = wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let hint = "[ids] keeps the owners of files on volumes right; if that does not matter, correct the numbers there";
    StageError::Refused { message, hint: Some(hint.to_owned()) }
}

fn locked(names: &FixedIds) -> StageError {
    let message = format!("kiln.lock has no numeric ids for {}", lines(names).join(", "));
    let hint = "build once without --locked, and commit the [ids] that it adds to kiln.lock";
    StageError::Refused { message, hint: Some(hint.to_owned()) }
}

fn refused(error: FactoryError) -> StageError {
    StageError::Io { doing: "write new ids into kiln.lock".to_owned(), source: std::io::Error::other(error) }
}
