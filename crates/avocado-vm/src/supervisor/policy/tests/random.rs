//! Whatever happens in whatever order: no client and no command waits for ever.

use proptest::prelude::*;

use super::*;

/// What may happen around a VM. Outcomes of commands come from [`World`].
#[derive(Debug, Clone)]
enum WorldEvent {
    Connect(CountedLane),
    Disconnect,
    Speak(CountedLane),
    Sign(CountedLane),
    SignMoves,
    Traffic,
    KeepAwake,
    EndKeepAwake,
    Timer,
    Wait(u16),
    ForeignStop,
    ForeignCont,
    PowerOff,
    Reset,
    Crash,
    Ask(VmRequest),
    Ready,
    /// The command under way ends, well or not.
    JobOutcome(bool),
}

fn happening() -> impl Strategy<Value = WorldEvent> {
    let lane = prop_oneof![Just(CountedLane::Ssh), Just(CountedLane::Docker)];
    let request = prop_oneof![
        4 => Just(VmRequest::Wake),
        4 => Just(VmRequest::Hibernate),
        4 => Just(VmRequest::Release),
        1 => any::<bool>().prop_map(|force| VmRequest::Stop { force }),
    ];
    prop_oneof![
        8 => lane.clone().prop_map(WorldEvent::Connect),
        6 => Just(WorldEvent::Disconnect),
        4 => lane.clone().prop_map(WorldEvent::Speak),
        4 => lane.prop_map(WorldEvent::Sign),
        3 => Just(WorldEvent::SignMoves),
        3 => Just(WorldEvent::Traffic),
        2 => Just(WorldEvent::KeepAwake),
        3 => Just(WorldEvent::EndKeepAwake),
        8 => Just(WorldEvent::Timer),
        6 => any::<u16>().prop_map(WorldEvent::Wait),
        2 => Just(WorldEvent::ForeignStop),
        2 => Just(WorldEvent::ForeignCont),
        1 => Just(WorldEvent::PowerOff),
        1 => Just(WorldEvent::Reset),
        1 => Just(WorldEvent::Crash),
        6 => request.prop_map(WorldEvent::Ask),
        3 => Just(WorldEvent::Ready),
        12 => prop::bool::weighted(0.8).prop_map(WorldEvent::JobOutcome),
    ]
}

/// QEMU and the clients around one policy, as they would answer.
struct World {
    policy: SleepPolicy,
    now: Instant,
    alive: bool,
    paused: bool,
    /// No client of QEMU has let it run since its memory was saved.
    as_saved: bool,
    /// Commands whose outcome is still to come.
    commands: Vec<PolicyAction>,
    /// Clients that wait: for a lease, and to be heard.
    opening: u64,
    wanting: u64,
    /// Leases.
    leases: u64,
    /// Commands that keep it awake.
    keep_awakes: u64,
    asked: Vec<VmRequest>,
}

impl World {
    fn new(settings: SleepSettings) -> Self {
        let now = Instant::now();
        World {
            policy: SleepPolicy::new(settings, now),
            now,
            alive: true,
            paused: false,
            as_saved: false,
            commands: Vec::new(),
            opening: 0,
            wanting: 0,
            leases: 0,
            keep_awakes: 0,
            asked: Vec::new(),
        }
    }

    fn fact(&mut self, fact: PolicyEvent) {
        let actions = self.policy.on(self.now, fact);
        for action in actions {
            self.act(action);
        }
        assert_eq!(
            self.policy.open_leases(),
            self.leases,
            "counts equal leases"
        );
        let commands = self
            .commands
            .iter()
            .filter(|c| !matches!(c, PolicyAction::CheckWork));
        assert!(commands.count() <= 2, "{:?}", self.commands);
    }

    fn act(&mut self, action: PolicyAction) {
        match action {
            PolicyAction::Grant => {
                assert!(
                    self.alive && !self.paused,
                    "a grant implies a running guest"
                );
                assert_eq!(self.policy.state(), PolicyState::Running);
                self.leases += std::mem::take(&mut self.opening);
                self.wanting = 0;
            }
            PolicyAction::Refuse(_) => {
                self.opening = 0;
                self.wanting = 0;
            }
            PolicyAction::Done(request) | PolicyAction::Denied(request, _) => {
                let same =
                    |a: &VmRequest| std::mem::discriminant(a) == std::mem::discriminant(&request);
                self.asked.retain(|asked| !same(asked));
            }
            PolicyAction::Pause | PolicyAction::Save if self.keep_awakes > 0 => {
                panic!("{action:?} of a guest that is kept awake")
            }
            PolicyAction::Pause
            | PolicyAction::Resume
            | PolicyAction::Save
            | PolicyAction::Quit
            | PolicyAction::Restore => {
                let others = self
                    .commands
                    .iter()
                    .filter(|c| !matches!(c, PolicyAction::CheckWork));
                assert_eq!(others.count(), 0, "{action:?} beside {:?}", self.commands);
                self.commands.push(action);
            }
            PolicyAction::ShutDown { .. } => {
                // A later one takes the place of an earlier one.
                self.commands
                    .retain(|c| !matches!(c, PolicyAction::ShutDown { .. }));
                self.commands.push(action);
            }
            PolicyAction::CheckWork => self.commands.push(action),
            PolicyAction::CancelSave
            | PolicyAction::Discard
            | PolicyAction::AfterWake
            | PolicyAction::SetUp => {}
        }
    }

    fn pause(&mut self, paused: bool) {
        if self.alive && self.paused != paused {
            self.paused = paused;
            self.as_saved = false;
            self.fact(if paused {
                PolicyEvent::Paused
            } else {
                PolicyEvent::Resumed
            });
        }
    }

    fn exit(&mut self) {
        if std::mem::take(&mut self.alive) {
            self.paused = false;
            self.fact(PolicyEvent::Exited);
        }
    }

    fn outcome(&mut self, good: bool) {
        if self.commands.is_empty() {
            return;
        }
        let wanted = good;
        let good = good && (self.alive || self.commands[0] == PolicyAction::Restore);
        match self.commands.remove(0) {
            PolicyAction::Pause => {
                if good {
                    self.pause(true);
                }
                self.fact(PolicyEvent::PauseDone {
                    paused: self.paused,
                });
            }
            PolicyAction::Resume => {
                if good {
                    self.pause(false);
                }
                let running = self.alive && !self.paused;
                self.fact(PolicyEvent::ResumeDone { running });
            }
            PolicyAction::Save => {
                self.pause(false);
                self.pause(true);
                self.as_saved = good;
                self.fact(PolicyEvent::SaveDone {
                    saved: good,
                    paused: self.paused,
                });
            }
            PolicyAction::Quit => {
                let saved = wanted && (self.as_saved || !self.alive);
                if saved {
                    self.exit();
                }
                self.fact(PolicyEvent::QuitDone { saved });
            }
            PolicyAction::Restore if good => {
                self.alive = true;
                self.paused = false;
                self.fact(PolicyEvent::Restored);
            }
            // Of no use: the guest boots anew.
            PolicyAction::Restore if self.leases == 0 && self.asked.is_empty() => {
                self.alive = true;
                self.paused = false;
                self.fact(PolicyEvent::Rebooted);
            }
            PolicyAction::Restore => self.fact(PolicyEvent::RestoreFailed {
                kept: self.leases.is_multiple_of(2),
            }),
            PolicyAction::ShutDown { force } if good || force => {
                self.fact(PolicyEvent::Shutdown { by_guest: true });
                self.exit();
            }
            PolicyAction::ShutDown { .. } => self.fact(PolicyEvent::StopFailed),
            PolicyAction::CheckWork => self.fact(PolicyEvent::WorkChecked { busy: good }),
            other => panic!("{other:?} is no command"),
        }
    }

    fn happen(&mut self, happening: &WorldEvent) {
        match *happening {
            WorldEvent::Connect(lane) => {
                self.opening += 1;
                self.fact(PolicyEvent::LeaseRequested(lane));
            }
            WorldEvent::Disconnect if self.leases > 0 => {
                self.leases -= 1;
                self.fact(PolicyEvent::LeaseDropped);
            }
            WorldEvent::Speak(lane) if self.leases > 0 => {
                self.wanting += 1;
                self.fact(PolicyEvent::ClientSpoke(lane));
            }
            WorldEvent::Sign(lane) if self.leases > 0 => {
                self.wanting += 1;
                self.fact(PolicyEvent::SignSpoken(lane));
            }
            WorldEvent::SignMoves if self.leases > 0 => {
                self.fact(PolicyEvent::SignOfLife(self.now));
            }
            WorldEvent::Sign(_) | WorldEvent::SignMoves => {}
            WorldEvent::Traffic if self.leases > 0 => self.fact(PolicyEvent::Traffic(self.now)),
            WorldEvent::Disconnect | WorldEvent::Speak(_) | WorldEvent::Traffic => {}
            WorldEvent::KeepAwake => {
                // As the server of requests does it.
                self.keep_awakes += 1;
                self.fact(PolicyEvent::KeepAwakeBegun);
                self.asked.push(VmRequest::Wake);
                self.fact(PolicyEvent::Requested(VmRequest::Wake));
            }
            WorldEvent::EndKeepAwake if self.keep_awakes > 0 => {
                self.keep_awakes -= 1;
                self.fact(PolicyEvent::KeepAwakeEnded);
            }
            WorldEvent::EndKeepAwake => {}
            WorldEvent::Timer => {
                if let Some(deadline) = self.policy.deadline() {
                    self.now = self.now.max(deadline);
                    self.fact(PolicyEvent::DeadlinePassed);
                }
            }
            WorldEvent::Wait(ms) => {
                self.now += Duration::from_millis(ms.into());
                self.fact(PolicyEvent::DeadlinePassed);
            }
            WorldEvent::ForeignStop => self.pause(true),
            WorldEvent::ForeignCont => self.pause(false),
            WorldEvent::PowerOff if self.alive && !self.paused => {
                self.fact(PolicyEvent::Shutdown { by_guest: true });
                self.exit();
            }
            WorldEvent::PowerOff => {}
            WorldEvent::Reset => self.fact(PolicyEvent::Reset),
            WorldEvent::Crash => self.exit(),
            WorldEvent::Ask(request) => {
                self.asked.push(request);
                self.fact(PolicyEvent::Requested(request));
            }
            WorldEvent::Ready if self.alive && !self.paused => self.fact(PolicyEvent::Ready),
            WorldEvent::Ready => {}
            WorldEvent::JobOutcome(good) => self.outcome(good),
        }
    }

    /// Lets everything that is under way end, but no other time pass than that of deadlines.
    fn come_to_rest(&mut self) {
        for _ in 0..50 {
            while !self.commands.is_empty() {
                self.outcome(true);
            }
            if self.policy.state() == PolicyState::Starting {
                self.pause(false);
                self.fact(PolicyEvent::Ready);
            }
            let asked = self.asked.iter().any(|a| !matches!(a, VmRequest::Wake));
            if asked {
                self.happen(&WorldEvent::Timer);
            } else if self.commands.is_empty() {
                return;
            }
        }
    }
}

fn settings() -> impl Strategy<Value = SleepSettings> {
    let time = || {
        prop_oneof![
            Just(None),
            (1..100u64).prop_map(|n| Some(Duration::from_secs(n)))
        ]
    };
    (time(), time(), time(), any::<bool>()).prop_map(
        |(hibernate_after, release_after, silent, containers)| SleepSettings {
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
            if matches!(world.policy.state(), PolicyState::Running) {
                prop_assert!(world.alive && !world.paused);
                prop_assert_eq!(world.opening + world.wanting, 0);
            }
            if world.keep_awakes > 0 {
                // Nothing but other clients of QEMU puts it to sleep.
                prop_assert_eq!(world.policy.deadline(), None);
            }
            if matches!(world.policy.state(), PolicyState::Released | PolicyState::Gone) {
                prop_assert!(!world.alive);
            }
        }
        world.come_to_rest();
        prop_assert_eq!(world.opening + world.wanting, 0, "clients wait in {:?}", world.policy);
        prop_assert!(world.asked.is_empty(), "{:?} wait in {:?}", world.asked, world.policy);
        // Whatever happened, a VM that is still there can be reached.
        if world.policy.state() != PolicyState::Gone {
            world.happen(&WorldEvent::Connect(CountedLane::Ssh));
            world.come_to_rest();
            prop_assert_eq!(world.opening, 0);
            prop_assert!(matches!(world.policy.state(), PolicyState::Running | PolicyState::Gone));
        }
    }

    #[test]
    fn zero_never_sleeps(happenings in prop::collection::vec(happening(), 0..60)) {
        let settings = SleepSettings {
            hibernate_after: None,
            release_after: None,
            silent: Some(Duration::from_secs(1)),
            containers: true,
        };
        let mut world = World::new(settings);
        let asked = |h: &WorldEvent| {
            matches!(h, WorldEvent::ForeignStop | WorldEvent::Ask(VmRequest::Hibernate | VmRequest::Release))
        };
        for happening in happenings.iter().filter(|h| !asked(h)) {
            world.happen(happening);
            prop_assert!(!world.paused);
        }
    }
}
