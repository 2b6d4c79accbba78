//! Whatever happens in whatever order: nobody waits for ever.

use proptest::prelude::*;

use super::*;

/// What may happen around a VM. Outcomes of commands come from [`World`].
#[derive(Debug, Clone)]
enum Happening {
    Connect(Lane),
    Disconnect,
    Speak(Lane),
    Traffic,
    Timer,
    Wait(u16),
    ForeignStop,
    ForeignCont,
    PowerOff,
    Reset,
    Crash,
    Ask(Request),
    Ready,
    /// The command under way ends, well or not.
    Outcome(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    let lane = prop_oneof![Just(Lane::Ssh), Just(Lane::Docker)];
    let request = prop_oneof![
        4 => Just(Request::Wake),
        4 => Just(Request::Hibernate),
        4 => Just(Request::Release),
        1 => any::<bool>().prop_map(|force| Request::Stop { force }),
    ];
    prop_oneof![
        8 => lane.clone().prop_map(Happening::Connect),
        6 => Just(Happening::Disconnect),
        4 => lane.prop_map(Happening::Speak),
        3 => Just(Happening::Traffic),
        8 => Just(Happening::Timer),
        6 => any::<u16>().prop_map(Happening::Wait),
        2 => Just(Happening::ForeignStop),
        2 => Just(Happening::ForeignCont),
        1 => Just(Happening::PowerOff),
        1 => Just(Happening::Reset),
        1 => Just(Happening::Crash),
        6 => request.prop_map(Happening::Ask),
        3 => Just(Happening::Ready),
        12 => prop::bool::weighted(0.8).prop_map(Happening::Outcome),
    ]
}

/// QEMU and the clients around one policy, as they would answer.
struct World {
    policy: Policy,
    now: Instant,
    alive: bool,
    paused: bool,
    /// Nobody has let it run since its memory was saved.
    as_saved: bool,
    /// Commands whose outcome is still to come.
    commands: Vec<Action>,
    /// Clients that wait: for a lease, and to be heard.
    opening: u64,
    wanting: u64,
    /// Leases.
    leases: u64,
    asked: Vec<Request>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        World {
            policy: Policy::new(settings, now),
            now,
            alive: true,
            paused: false,
            as_saved: false,
            commands: Vec::new(),
            opening: 0,
            wanting: 0,
            leases: 0,
            asked: Vec::new(),
        }
    }

    fn fact(&mut self, fact: Fact) {
        let actions = self.policy.on(self.now, fact);
        for action in actions {
            self.act(action);
        }
        assert_eq!(self.policy.open(), self.leases, "counts equal leases");
        let commands = self.commands.iter().filter(|c| !matches!(c, Action::Look));
        assert!(commands.count() <= 2, "{:?}", self.commands);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Grant => {
                assert!(
                    self.alive && !self.paused,
                    "a grant implies a running guest"
                );
                assert_eq!(self.policy.state(), State::Running);
                self.leases += std::mem::take(&mut self.opening);
                self.wanting = 0;
            }
            Action::Refuse(_) => {
                self.opening = 0;
                self.wanting = 0;
            }
            Action::Done(request) | Action::Denied(request, _) => {
                let same =
                    |a: &Request| std::mem::discriminant(a) == std::mem::discriminant(&request);
                self.asked.retain(|asked| !same(asked));
            }
            Action::Pause | Action::Resume | Action::Save | Action::Quit | Action::Restore => {
                let others = self.commands.iter().filter(|c| !matches!(c, Action::Look));
                assert_eq!(others.count(), 0, "{action:?} beside {:?}", self.commands);
                self.commands.push(action);
            }
            Action::ShutDown { .. } => {
                // A later one takes the place of an earlier one.
                self.commands
                    .retain(|c| !matches!(c, Action::ShutDown { .. }));
                self.commands.push(action);
            }
            Action::Look => self.commands.push(action),
            Action::HurrySave | Action::Discard | Action::AfterWake | Action::SetUp => {}
        }
    }

    fn pause(&mut self, paused: bool) {
        if self.alive && self.paused != paused {
            self.paused = paused;
            self.as_saved = false;
            self.fact(if paused { Fact::Paused } else { Fact::Resumed });
        }
    }

    fn exit(&mut self) {
        if std::mem::take(&mut self.alive) {
            self.paused = false;
            self.fact(Fact::Exited);
        }
    }

    fn outcome(&mut self, good: bool) {
        if self.commands.is_empty() {
            return;
        }
        let wanted = good;
        let good = good && (self.alive || self.commands[0] == Action::Restore);
        match self.commands.remove(0) {
            Action::Pause => {
                if good {
                    self.pause(true);
                }
                self.fact(Fact::PauseDone {
                    paused: self.paused,
                });
            }
            Action::Resume => {
                if good {
                    self.pause(false);
                }
                let running = self.alive && !self.paused;
                self.fact(Fact::ResumeDone { running });
            }
            Action::Save => {
                self.pause(false);
                self.pause(true);
                self.as_saved = good;
                self.fact(Fact::SaveDone {
                    saved: good,
                    paused: self.paused,
                });
            }
            Action::Quit => {
                let saved = wanted && (self.as_saved || !self.alive);
                if saved {
                    self.exit();
                }
                self.fact(Fact::QuitDone { saved });
            }
            Action::Restore if good => {
                self.alive = true;
                self.paused = false;
                self.fact(Fact::Restored);
            }
            // Of no use: the guest boots anew.
            Action::Restore if self.leases == 0 && self.asked.is_empty() => {
                self.alive = true;
                self.paused = false;
                self.fact(Fact::Rebooted);
            }
            Action::Restore => self.fact(Fact::RestoreFailed {
                kept: self.leases.is_multiple_of(2),
            }),
            Action::ShutDown { force } if good || force => {
                self.fact(Fact::Shutdown { by_guest: true });
                self.exit();
            }
            Action::ShutDown { .. } => self.fact(Fact::StopFailed),
            Action::Look => self.fact(Fact::Work { busy: good }),
            other => panic!("{other:?} is no command"),
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Connect(lane) => {
                self.opening += 1;
                self.fact(Fact::Opened(lane));
            }
            Happening::Disconnect if self.leases > 0 => {
                self.leases -= 1;
                self.fact(Fact::Closed);
            }
            Happening::Speak(lane) if self.leases > 0 => {
                self.wanting += 1;
                self.fact(Fact::Wanted(lane));
            }
            Happening::Traffic if self.leases > 0 => self.fact(Fact::Traffic(self.now)),
            Happening::Disconnect | Happening::Speak(_) | Happening::Traffic => {}
            Happening::Timer => {
                if let Some(deadline) = self.policy.deadline() {
                    self.now = self.now.max(deadline);
                    self.fact(Fact::Timer);
                }
            }
            Happening::Wait(ms) => {
                self.now += Duration::from_millis(ms.into());
                self.fact(Fact::Timer);
            }
            Happening::ForeignStop => self.pause(true),
            Happening::ForeignCont => self.pause(false),
            Happening::PowerOff if self.alive && !self.paused => {
                self.fact(Fact::Shutdown { by_guest: true });
                self.exit();
            }
            Happening::PowerOff => {}
            Happening::Reset => self.fact(Fact::Reset),
            Happening::Crash => self.exit(),
            Happening::Ask(request) => {
                self.asked.push(request);
                self.fact(Fact::Asked(request));
            }
            Happening::Ready if self.alive && !self.paused => self.fact(Fact::Ready),
            Happening::Ready => {}
            Happening::Outcome(good) => self.outcome(good),
        }
    }

    /// Lets everything that is under way end, but no other time pass than that of deadlines.
    fn come_to_rest(&mut self) {
        for _ in 0..50 {
            while !self.commands.is_empty() {
                self.outcome(true);
            }
            if self.policy.state() == State::Starting {
                self.pause(false);
                self.fact(Fact::Ready);
            }
            let asked = self.asked.iter().any(|a| !matches!(a, Request::Wake));
            if asked {
                self.happen(&Happening::Timer);
            } else if self.commands.is_empty() {
                return;
            }
        }
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let time = || {
        prop_oneof![
            Just(None),
            (1..100u64).prop_map(|n| Some(Duration::from_secs(n)))
        ]
    };
    (time(), time(), time(), any::<bool>()).prop_map(
        |(hibernate_after, release_after, silent, containers)| Settings {
            hibernate_after,
            release_after,
            silent,
            containers,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_waits_for_ever(
        settings in settings(),
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut world = World::new(settings);
        for happening in &happenings {
            world.happen(happening);
            if matches!(world.policy.state(), State::Running) {
                prop_assert!(world.alive && !world.paused);
                prop_assert_eq!(world.opening + world.wanting, 0);
            }
            if matches!(world.policy.state(), State::Released | State::Gone) {
                prop_assert!(!world.alive);
            }
        }
        world.come_to_rest();
        prop_assert_eq!(world.opening + world.wanting, 0, "clients wait in {:?}", world.policy);
        prop_assert!(world.asked.is_empty(), "{:?} wait in {:?}", world.asked, world.policy);
        // Whatever happened, a VM that is still there can be reached.
        if world.policy.state() != State::Gone {
            world.happen(&Happening::Connect(Lane::Ssh));
            world.come_to_rest();
            prop_assert_eq!(world.opening, 0);
            prop_assert!(matches!(world.policy.state(), State::Running | State::Gone));
        }
    }

    #[test]
    fn zero_never_sleeps(happenings in prop::collection::vec(happening(), 0..60)) {
        let settings = Settings {
            hibernate_after: None,
            release_after: None,
            silent: Some(Duration::from_secs(1)),
            containers: true,
        };
        let mut world = World::new(settings);
        let asked = |h: &Happening| {
            matches!(h, Happening::ForeignStop | Happening::Ask(Request::Hibernate | Request::Release))
        };
        for happening in happenings.iter().filter(|h| !asked(h)) {
            world.happen(happening);
            prop_assert!(!world.paused);
        }
    }
}
