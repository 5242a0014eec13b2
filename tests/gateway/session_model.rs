//! Sessions against a plain model: random interleavings of everything that can happen to them, on both stores.
//!
//! The model knows what each session must be and nothing of how a store keeps it. A walk that differs from the model is cut down
//! to the steps that it needs, and printed.

#![expect(clippy::unwrap_used, reason = "a step that differs from the model is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tollgate::session::{
    Begin, EndReason, GrantKind, Granted, InvalidRefresh, RefreshClaim, RefreshError, RefreshKeys, SeenFrom, SessionId,
    SessionSettings, Sessions,
};
use tollgate::store::{self, Account, Patience, Store, StoreLocation, StoreSettings};
use tollgate::time::UnixSeconds;

use crate::sessions::at;
use crate::store::{on_both, person};
use crate::support::sick_store::{Fault, Sick, SickStore};

/// Walks on each store, and steps in each.
const WALKS: u64 = 240;
const STEPS: usize = 40;
/// Walks under way at once: they wait for the disk most of the time.
const TOGETHER: usize = 24;
/// No machine is so slow that this is over in a test.
const LONG: Duration = Duration::from_secs(600);
/// Far from now, so that the server deletes nothing by its own clock.
const BEGINNING: u64 = 4_000_000_000;

const REFRESH_TTL: u64 = 100;
const SESSION_TTL: u64 = 400;
const GRACE: u64 = 10;
const ACCESS_LIFE: u64 = 30;
/// What the service adds to the life of the last access token.
const REMEMBERED: u64 = 3600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    LogIn {
        person: usize,
    },
    /// Presents a token: the current one (0), its predecessor (1) …; those are also what a client has whose answer was lost.
    Refresh {
        session: usize,
        back: u32,
    },
    /// The same token several times at once.
    Together {
        session: usize,
        back: u32,
        times: usize,
    },
    /// Others refresh the session between the two halves of a refresh.
    RefreshBetween {
        session: usize,
        others: u32,
    },
    /// The write of the refresh fails, at a gateway that tries it again or that does not.
    RefreshSick {
        session: usize,
        back: u32,
        fault: Fault,
        patience: Duration,
    },
    /// Beside an access token of another session.
    RefreshBeside {
        session: usize,
        other: usize,
    },
    LogOut {
        session: usize,
    },
    /// By somebody who is not its owner.
    LogOutStranger {
        session: usize,
    },
    LogOutOthers {
        session: usize,
    },
    LogOutEverywhere {
        person: usize,
    },
    /// A logout at the same time as a refresh.
    LogOutRacing {
        session: usize,
    },
    /// A logout, or the end of the row, between the two halves of a refresh.
    LogOutBetween {
        session: usize,
    },
    Disable {
        person: usize,
    },
    Enable {
        person: usize,
    },
    Remove {
        person: usize,
    },
    /// The clock goes on, or is set.
    Clock {
        seconds: i64,
    },
    /// Rows that nobody needs are deleted.
    Purge,
}

/// What a session must be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    person: usize,
    counter: u32,
    rotated_at: u64,
    expires_at: u64,
    ends_at: u64,
    purge_at: u64,
    ended: Option<EndReason>,
    purged: bool,
}

struct World {
    store: Arc<dyn Store>,
    sessions: Sessions,
    accounts: Vec<Account>,
    /// `None`: removed.
    disabled: Vec<Option<bool>>,
    now: u64,
    expected: Vec<Expected>,
    ids: Vec<SessionId>,
    /// By session and counter; the same token must come each time.
    tokens: BTreeMap<(usize, u32), String>,
    purges: bool,
    /// How often each kind of answer came.
    tally: Tally,
}

type Tally = BTreeMap<String, usize>;

impl World {
    async fn new(store: Arc<dyn Store>, purges: bool, name: &str) -> Self {
        let mut accounts = Vec::new();
        for person_name in ["ada", "bob"] {
            accounts.push(store.add_account(&person(&format!("{person_name}-{name}"))).await.unwrap());
        }
        let sessions = gateway(&store, Duration::ZERO);
        Self {
            store,
            sessions,
            accounts,
            disabled: vec![Some(false); 2],
            now: BEGINNING,
            expected: Vec::new(),
            ids: Vec::new(),
            tokens: BTreeMap::new(),
            purges,
            tally: Tally::new(),
        }
    }

    fn time(&self) -> UnixSeconds {
        UnixSeconds(self.now)
    }

    /// Takes the step in the world and in the model.
    async fn take(&mut self, step: Step) -> Result<(), String> {
        let known = |session: usize| (!self.ids.is_empty()).then(|| session % self.ids.len());
        match step {
            Step::LogIn { person } => self.log_in(person).await,
            Step::Clock { seconds } => {
                self.now = self.now.saturating_add_signed(seconds);
                Ok(())
            }
            Step::Purge => self.purge().await,
            Step::Disable { person } => self.set_disabled(person, true).await,
            Step::Enable { person } => self.set_disabled(person, false).await,
            Step::Remove { person } => self.remove(person).await,
            Step::LogOutEverywhere { person } => {
                let subject = self.accounts[person].subject.clone();
                let reason = EndReason::LogoutGlobal;
                let ended = self.sessions.end_all(Some(&subject), reason, self.time()).await.unwrap();
                let expected = self.end_where(reason, |_, session| session.person == person);
                same("sessions ended", ended, expected)
            }
            Step::Refresh { session, back } => match known(session) {
                Some(session) => self.refresh(session, back, 1).await,
                None => Ok(()),
            },
            Step::Together { session, back, times } => match known(session) {
                Some(session) => self.refresh(session, back, times).await,
                None => Ok(()),
            },
            Step::RefreshBetween { session, others } => match known(session) {
                Some(session) => self.refresh_between(session, others).await,
                None => Ok(()),
            },
            Step::RefreshSick { session, back, fault, patience } => match known(session) {
                Some(session) => self.refresh_sick(session, back, fault, patience).await,
                None => Ok(()),
            },
            Step::RefreshBeside { session, other } => match (known(session), known(other)) {
                (Some(session), Some(other)) if session != other => self.refresh_beside(session, other).await,
                _ => Ok(()),
            },
            Step::LogOut { session } => match known(session) {
                Some(session) => self.log_out(session).await,
                None => Ok(()),
            },
            Step::LogOutStranger { session } => match known(session) {
                Some(session) => {
                    let stranger = &self.accounts[1 - self.expected[session].person].subject;
                    let ended =
                        self.sessions.end(self.ids[session], Some(stranger), EndReason::Revoked, self.time()).await;
                    same("ended by a stranger", ended.unwrap(), false)
                }
                None => Ok(()),
            },
            Step::LogOutOthers { session } => match known(session) {
                Some(session) => {
                    let (person, reason) = (self.expected[session].person, EndReason::LogoutOthers);
                    let subject = &self.accounts[person].subject;
                    let ended = self.sessions.end_others(subject, self.ids[session], reason, self.time()).await;
                    let expected = self.end_where(reason, |index, other| index != session && other.person == person);
                    same("others ended", ended.unwrap(), expected)
                }
                None => Ok(()),
            },
            Step::LogOutRacing { session } => match known(session) {
                Some(session) => self.log_out_racing(session).await,
                None => Ok(()),
            },
            Step::LogOutBetween { session } => match known(session) {
                Some(session) => self.log_out_between(session).await,
                None => Ok(()),
            },
        }
    }

    async fn log_in(&mut self, person: usize) -> Result<(), String> {
        let begin = Begin {
            session: SessionId::random().unwrap(),
            account: &self.accounts[person],
            client_id: "test",
            scope: "",
            seen: SeenFrom::default(),
        };
        let granted = self.sessions.begin(begin, at(self.time())).await.unwrap();
        let ends_at = self.now + SESSION_TTL;
        let expires_at = self.now + REFRESH_TTL;
        self.ids.push(granted.session);
        self.expected.push(Expected {
            person,
            counter: 0,
            rotated_at: self.now,
            expires_at,
            ends_at,
            purge_at: expires_at + ACCESS_LIFE + REMEMBERED,
            ended: None,
            purged: false,
        });
        same("kind", granted.kind, GrantKind::First)?;
        self.note_token(self.ids.len() - 1, &granted)
    }

    /// The model of one refresh: what it must answer, and what it leaves.
    fn expect_refresh(&mut self, session: usize, presented: u32) -> String {
        let (now, id) = (self.now, self.ids[session]);
        let account = self.disabled[self.expected[session].person];
        let row = &mut self.expected[session];
        let end = |row: &mut Expected, reason| {
            row.ended = Some(reason);
            row.purge_at = now + ACCESS_LIFE + REMEMBERED;
        };
        if row.purged {
            return format!("unknown {id}");
        }
        if let Some(reason) = row.ended {
            return format!("ended {}", reason.name());
        }
        if now >= row.expires_at || now >= row.ends_at {
            end(row, EndReason::Expired);
            return "expired".to_owned();
        }
        let is_predecessor = row.counter == presented + 1 && now.abs_diff(row.rotated_at) <= GRACE;
        if row.counter != presented && !is_predecessor {
            end(row, EndReason::Replay);
            return "reused, and ended by it".to_owned();
        }
        match account {
            None => {
                end(row, EndReason::AccountRemoved);
                return "account_removed".to_owned();
            }
            Some(true) => {
                end(row, EndReason::AccountDisabled);
                return "account_disabled".to_owned();
            }
            Some(false) => {}
        }
        if is_predecessor {
            return format!("same successor {}, until {}", row.counter, row.expires_at);
        }
        row.counter += 1;
        row.rotated_at = now;
        row.expires_at = (now + REFRESH_TTL).min(row.ends_at);
        row.purge_at = row.expires_at + ACCESS_LIFE + REMEMBERED;
        format!("successor {}, until {}", row.counter, row.expires_at)
    }

    async fn refresh(&mut self, session: usize, back: u32, times: usize) -> Result<(), String> {
        let Some(presented) = self.expected[session].counter.checked_sub(back) else { return Ok(()) };
        let token = self.tokens[&(session, presented)].clone();
        let answers = join_all((0..times).map(|_| refresh(&self.sessions, &token, None, self.time()))).await;
        // All of them at one moment are the same as one after the other …
        let expected: Vec<String> = (0..times).map(|_| self.expect_refresh(session, presented)).collect();
        let actual: Vec<String> = answers.iter().map(told).collect();
        for answer in &actual {
            let kind = answer.split([',', ' ']).next().unwrap().to_owned();
            *self.tally.entry(kind).or_default() += 1;
        }
        for granted in answers.iter().flatten() {
            self.note_token(session, granted)?;
        }
        // … but of those that end the session, several may see it before the first has ended it.
        let (first, later) = (&expected[0], expected.last().unwrap());
        if later.starts_with("ended ") && first != later {
            let ends_at_most_once = first.starts_with("reused");
            let count = actual.iter().filter(|answer| *answer == first).count();
            let fits = |answer: &String| {
                [first, later].contains(&answer) || (ends_at_most_once && answer == "reused, after another")
            };
            if actual.iter().all(fits) && (count == 1 || (count > 1 && !ends_at_most_once)) {
                return Ok(());
            }
        }
        same("answers", sorted(actual), sorted(expected))
    }

    async fn refresh_between(&mut self, session: usize, others: u32) -> Result<(), String> {
        let presented = self.expected[session].counter;
        let token = self.tokens[&(session, presented)].clone();
        let found = self.sessions.look_up(&token, None, at(self.time())).await;
        let Ok(candidate) = found else {
            let expected = self.expect_refresh(session, presented);
            return same("answer", told(&found.map(|_| unreachable!())), expected);
        };
        for _ in 0..others {
            self.refresh(session, 0, 1).await?;
        }
        let answer = self.sessions.rotate(candidate, SeenFrom::default()).await;
        let expected = match others {
            0 => self.expect_refresh(session, presented),
            _ => {
                *self.tally.entry("overtaken".to_owned()).or_default() += 1;
                let row = &self.expected[session];
                format!("same successor {}, until {}", row.counter, row.expires_at)
            }
        };
        same("answer", told(&answer), expected)?;
        self.note_token(session, &answer.unwrap())
    }

    async fn refresh_sick(
        &mut self,
        session: usize,
        back: u32,
        fault: Fault,
        patience: Duration,
    ) -> Result<(), String> {
        let Some(presented) = self.expected[session].counter.checked_sub(back) else { return Ok(()) };
        let token = self.tokens[&(session, presented)].clone();
        let sick = SickStore::over(&self.store);
        let as_store: Arc<dyn Store> = Arc::clone(&sick) as _;
        let gateway = gateway(&as_store, patience);
        let before = self.expected[session].clone();
        let mut expected = self.expect_refresh(session, presented);
        let writes = self.expected[session] != before;
        let rotates = self.expected[session].counter != before.counter;

        sick.writing(Sick::Once(fault));
        // Only afterwards, so that each gives the same grace.
        let renewals = sick.hold_renewals().await;
        let answer = refresh(&gateway, &token, None, self.time()).await;
        drop(renewals);
        if rotates {
            sick.renewed().await;
            self.expected[session].rotated_at = self.now + 1;
        }
        if writes && patience.is_zero() {
            *self.tally.entry("refused".to_owned()).or_default() += 1;
            if fault == Fault::Before {
                self.expected[session] = before;
            }
            if !matches!(answer, Err(RefreshError::Store(_))) {
                return Err(format!("{:?}, though its write failed", told(&answer)));
            }
            // What was made without a word is given to whoever comes with the token again.
            let claim = RefreshClaim { session: self.ids[session], counter: self.expected[session].counter };
            let token = RefreshKeys::new(&[7; 32], &[]).token(claim).expose().to_owned();
            self.tokens.insert((session, claim.counter), token);
            return Ok(());
        }
        if writes && fault == Fault::After {
            *self.tally.entry("retried".to_owned()).or_default() += 1;
            // An end that is tried again is still its own, and a change has become that of a predecessor.
            if let Some(rest) = expected.strip_prefix("successor ") {
                expected = format!("same successor {rest}");
            }
        }
        same("answer at a gateway with a sick store", told(&answer), expected)?;
        answer.map_or(Ok(()), |granted| self.note_token(session, &granted))
    }

    async fn refresh_beside(&self, session: usize, other: usize) -> Result<(), String> {
        let token = self.tokens[&(session, self.expected[session].counter)].clone();
        let answer = refresh(&self.sessions, &token, Some(self.ids[other]), self.time()).await;
        same("answer beside another session", told(&answer), "other session".to_owned())
    }

    async fn log_out(&mut self, session: usize) -> Result<(), String> {
        let subject = &self.accounts[self.expected[session].person].subject;
        let reason = EndReason::Logout;
        let ended = self.sessions.end(self.ids[session], Some(subject), reason, self.time()).await.unwrap();
        let expected = self.end_where(reason, |index, _| index == session);
        same("ended by the logout", u64::from(ended), expected)
    }

    async fn log_out_racing(&mut self, session: usize) -> Result<(), String> {
        let token = self.tokens[&(session, self.expected[session].counter)].clone();
        let was_alive = self.expected[session].ended.is_none() && !self.expected[session].purged;
        let ending = self.sessions.end(self.ids[session], None, EndReason::Logout, self.time());
        let (answer, ended) = tokio::join!(refresh(&self.sessions, &token, None, self.time()), ending);
        let (actual, ended) = (told(&answer), ended.unwrap());
        let before = self.expected[session].clone();
        let alone = self.expect_refresh(session, before.counter);
        if was_alive && actual == "ended logout" {
            self.expected[session] = before;
        } else if actual != alone {
            return Err(format!("a refresh beside a logout answered {actual:?}, and alone would have {alone:?}"));
        }
        if let Ok(granted) = &answer {
            self.note_token(session, granted)?;
        }
        // Whatever the refresh saw, the session is over, for the reason that came first.
        if was_alive && ended {
            self.expected[session].ended = Some(EndReason::Logout);
            self.expected[session].purge_at = self.now + ACCESS_LIFE + REMEMBERED;
        } else if was_alive && self.expected[session].ended.is_none() {
            return Err("the logout of a live session did not end it".to_owned());
        }
        Ok(())
    }

    async fn log_out_between(&mut self, session: usize) -> Result<(), String> {
        let token = self.tokens[&(session, self.expected[session].counter)].clone();
        let found = self.sessions.look_up(&token, None, at(self.time())).await;
        let Ok(candidate) = found else {
            let expected = self.expect_refresh(session, self.expected[session].counter);
            return same("answer", told(&found.map(|_| unreachable!())), expected);
        };
        self.log_out(session).await?;
        let answer = self.sessions.rotate(candidate, SeenFrom::default()).await;
        same("refresh after the logout", told(&answer), "ended logout".to_owned())
    }

    async fn set_disabled(&mut self, person: usize, disabled: bool) -> Result<(), String> {
        if self.disabled[person].is_some() {
            self.store.set_disabled(&self.accounts[person].login, disabled).await.unwrap();
            self.disabled[person] = Some(disabled);
        }
        Ok(())
    }

    async fn remove(&mut self, person: usize) -> Result<(), String> {
        if self.disabled[person].take().is_some() {
            self.store.remove_account(&self.accounts[person].login).await.unwrap();
        }
        Ok(())
    }

    async fn purge(&mut self) -> Result<(), String> {
        if self.purges {
            self.store.purge_sessions(self.time()).await.unwrap();
            for row in &mut self.expected {
                row.purged |= row.purge_at <= self.now;
            }
        }
        Ok(())
    }

    /// Ends those that have not ended, and tells how many these were.
    fn end_where(&mut self, reason: EndReason, picks: impl Fn(usize, &Expected) -> bool) -> u64 {
        let mut count = 0;
        for (index, row) in self.expected.iter_mut().enumerate() {
            if row.ended.is_none() && !row.purged && picks(index, row) {
                row.ended = Some(reason);
                row.purge_at = self.now + ACCESS_LIFE + REMEMBERED;
                count += 1;
            }
        }
        count
    }

    fn note_token(&mut self, session: usize, granted: &Granted) -> Result<(), String> {
        same("session of the token", granted.session, self.ids[session])?;
        let row = &self.expected[session];
        let counter = row.counter;
        let token = granted.token.expose().to_owned();
        match self.tokens.insert((session, counter), token.clone()) {
            Some(before) => same("token given again", token, before),
            None => same("expiry", granted.expires_at, UnixSeconds(row.expires_at)),
        }
    }

    /// What the store says of all sessions is what the model says.
    async fn check(&self) -> Result<(), String> {
        for (person, account) in self.accounts.iter().enumerate() {
            let listed = self.sessions.list(Some(&account.subject), None, self.time()).await.unwrap();
            let actual: Vec<String> = listed.iter().map(|row| format!("{} {}", row.id, row.counter)).collect();
            let is_alive = |row: &Expected| {
                row.person == person
                    && row.ended.is_none()
                    && !row.purged
                    && self.now < row.expires_at
                    && self.now < row.ends_at
            };
            let alive = self.expected.iter().zip(&self.ids).filter(|(row, _)| is_alive(row));
            let expected: Vec<String> = alive.map(|(row, id)| format!("{id} {}", row.counter)).collect();
            same("live sessions", sorted(actual), sorted(expected))?;
        }
        for (row, id) in self.expected.iter().zip(&self.ids).filter(|(row, _)| !row.purged) {
            let found = self.store.find_session(*id).await.unwrap().unwrap();
            same("reason", found.ended.map(|ended| ended.reason), row.ended)?;
        }
        Ok(())
    }
}

fn gateway(store: &Arc<dyn Store>, patience: Duration) -> Sessions {
    let seconds = Duration::from_secs;
    let settings = SessionSettings {
        refresh_ttl: seconds(REFRESH_TTL),
        session_ttl: seconds(SESSION_TTL),
        refresh_grace: seconds(GRACE),
        access_life: seconds(ACCESS_LIFE),
    };
    let sessions = Sessions::new(Arc::clone(store), settings, Patience::new(patience));
    sessions.set_keys(RefreshKeys::new(&[7; 32], &[]));
    sessions
}

async fn refresh(
    sessions: &Sessions,
    token: &str,
    access_session: Option<SessionId>,
    now: UnixSeconds,
) -> Result<Granted, RefreshError> {
    let candidate = sessions.look_up(token, access_session, at(now)).await?;
    sessions.rotate(candidate, SeenFrom::default()).await
}

/// An answer in the words of the model.
fn told(answer: &Result<Granted, RefreshError>) -> String {
    match answer {
        Ok(Granted { kind, expires_at, token, .. }) => {
            let counter = RefreshKeys::new(&[7; 32], &[]).read(token.expose()).unwrap().counter;
            let kind = match kind {
                GrantKind::First => "first",
                GrantKind::Successor => "successor",
                GrantKind::SameSuccessor => "same successor",
            };
            format!("{kind} {counter}, until {}", expires_at.0)
        }
        Err(RefreshError::Invalid(InvalidRefresh::Unknown(id))) => format!("unknown {id}"),
        Err(RefreshError::Invalid(InvalidRefresh::Ended { reason, .. })) => format!("ended {}", reason.name()),
        Err(RefreshError::Invalid(InvalidRefresh::Expired(_))) => "expired".to_owned(),
        Err(RefreshError::Invalid(InvalidRefresh::OtherSession(_))) => "other session".to_owned(),
        Err(RefreshError::Invalid(InvalidRefresh::Foreign)) => "foreign".to_owned(),
        Err(RefreshError::Reused { ended: true, .. }) => "reused, and ended by it".to_owned(),
        Err(RefreshError::Reused { ended: false, .. }) => "reused, after another".to_owned(),
        Err(RefreshError::Account { reason, .. }) => reason.name().to_owned(),
        Err(error @ RefreshError::Unreadable { .. }) => error.to_string(),
        Err(RefreshError::Store(error)) => format!("store: {error}"),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, actual: T, expected: T) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what}: {actual:?}, and the model says {expected:?}")) }
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

/// A generator of numbers that a seed repeats (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn index(&mut self, limit: u64) -> usize {
        usize::try_from(self.below(limit)).unwrap()
    }

    fn step(&mut self) -> Step {
        let (person, session) = (self.index(2), self.index(5));
        match self.below(48) {
            0..=3 => Step::LogIn { person },
            4..=13 => Step::Refresh { session, back: 0 },
            14..=17 => Step::Refresh { session, back: 1 },
            18 => Step::Refresh { session, back: 2 },
            19..=21 => Step::Together { session, back: 0, times: 2 + self.index(3) },
            22 => Step::Together { session, back: u32::try_from(self.below(3)).unwrap(), times: 2 + self.index(3) },
            23 => Step::RefreshBeside { session, other: self.index(5) },
            24 => Step::LogOut { session },
            25 => Step::LogOutStranger { session },
            26 => Step::LogOutOthers { session },
            27 => Step::LogOutEverywhere { person },
            28 => Step::LogOutRacing { session },
            29 => Step::LogOutBetween { session },
            30 => Step::Disable { person },
            31 | 32 => Step::Enable { person },
            33 if self.below(4) == 0 => Step::Remove { person },
            34 => Step::Purge,
            35 => Step::Clock { seconds: -[1, 5, 11, 3600][self.index(4)] },
            36 | 37 => Step::RefreshBetween { session, others: u32::try_from(self.below(4)).unwrap() },
            38..=42 => Step::RefreshSick {
                session,
                back: u32::try_from(self.below(8).saturating_sub(4)).unwrap(),
                fault: [Fault::Before, Fault::After][self.index(2)],
                patience: [Duration::ZERO, LONG][self.index(2)],
            },
            _ => Step::Clock { seconds: [1, 1, 5, 9, 10, 11, 60, 99, 100, 4000, 86_400][self.index(11)] },
        }
    }
}

fn walk_of(seed: u64) -> Vec<Step> {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // Each walk has somebody to follow.
    std::iter::once(Step::LogIn { person: 0 }).chain((1..STEPS).map(|_| numbers.step())).collect()
}

/// A purge concerns all of a store, so that in SQLite, where it is ours to do, each walk gets a file of its own.
async fn walk(settings: &StoreSettings, shared: &Arc<dyn Store>, name: &str, steps: &[Step]) -> Result<Tally, String> {
    let (store, purges) = match &settings.location {
        StoreLocation::Sqlite { path } => {
            let location = StoreLocation::Sqlite { path: path.with_file_name(format!("{name}.db")) };
            (store::open(&StoreSettings { location, ..settings.clone() }).await.unwrap(), true)
        }
        StoreLocation::Mongo { .. } => (Arc::clone(shared), false),
    };
    let mut world = World::new(store, purges, name).await;
    for (number, step) in steps.iter().enumerate() {
        let taken = world.take(*step).await;
        taken.map_err(|error| format!("step {number}, {step:?}: {error}"))?;
    }
    world.check().await?;
    Ok(world.tally)
}

/// The walk without the steps that it does not need to fail, and how it fails then.
async fn cut_down(
    settings: &StoreSettings,
    shared: &Arc<dyn Store>,
    seed: u64,
    mut error: String,
) -> (Vec<Step>, String) {
    let mut steps = walk_of(seed);
    let mut tries = 0;
    let mut index = 0;
    while index < steps.len() {
        let mut fewer = steps.clone();
        fewer.remove(index);
        tries += 1;
        match walk(settings, shared, &format!("{seed}-{tries}"), &fewer).await {
            Ok(_) => index += 1,
            Err(still) => (steps, error) = (fewer, still),
        }
    }
    (steps, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_what_a_plain_model_says_whatever_happens_to_them() {
    on_both(async |settings| {
        let shared = store::open(&settings).await.unwrap();
        let begun = tokio::time::Instant::now();
        let mut tally = Tally::new();
        let seeds: Vec<u64> = (1..=WALKS).collect();
        for some in seeds.chunks(TOGETHER) {
            let walks = some.iter().map(|seed| {
                let (settings, shared, seed) = (settings.clone(), Arc::clone(&shared), *seed);
                tokio::spawn(async move { walk(&settings, &shared, &seed.to_string(), &walk_of(seed)).await })
            });
            for (seed, outcome) in some.iter().zip(join_all(walks).await) {
                match outcome.unwrap() {
                    Ok(counts) => {
                        for (kind, count) in counts {
                            *tally.entry(kind).or_default() += count;
                        }
                    }
                    Err(error) => {
                        let (steps, error) = cut_down(&settings, &shared, *seed, error).await;
                        panic!("walk {seed} on {shared:?} differs from the model at {error}\nin {steps:#?}");
                    }
                }
            }
        }
        println!("{WALKS} walks of {STEPS} steps on {shared:?} in {:.1?}: {tally:?}", begun.elapsed());
        // A model that is never contradicted proves nothing about what never happened.
        let refusals = ["reused", "ended", "expired", "account_disabled", "account_removed"];
        for kind in ["successor", "same", "overtaken", "refused", "retried"].into_iter().chain(refusals) {
            assert!(tally.get(kind).is_some_and(|count| *count >= 5), "{kind}: {tally:?}");
        }
    })
    .await;
}
