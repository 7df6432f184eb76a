//! What is done to a cluster under load.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    ejection::{Ejected, Watch},
    rig::fleet::Fleet,
};

/// A fault, or a planned change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    Kill,
    Pause,
    Rolling,
    Join,
    EtcdAll,
    EtcdOne,
    Partition,
}

/// How long a node, or a member of etcd, is away.
const AWAY: Duration = Duration::from_secs(10);
/// How long all of etcd is away.
const ETCD_AWAY: Duration = Duration::from_secs(30);

impl Scenario {
    pub const ALL: [Self; 7] =
        [Self::Kill, Self::Pause, Self::Rolling, Self::Join, Self::EtcdAll, Self::EtcdOne, Self::Partition];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Rolling => "rolling",
            Self::Join => "join",
            Self::EtcdAll => "etcd-all",
            Self::EtcdOne => "etcd-one",
            Self::Partition => "partition",
        }
    }

    pub const fn story(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL of one of three nodes, which is started again after 10 s",
            Self::Pause => "SIGSTOP of one of three nodes for 10 s",
            Self::Rolling => "SIGTERM and start of each of three nodes, one after another",
            Self::Join => "a fourth node joins",
            Self::EtcdAll => "SIGKILL of all members of etcd, which are started again after 30 s",
            Self::EtcdOne => "SIGKILL of one member of etcd, which is started again after 10 s",
            Self::Partition => "the link between two of three nodes is cut for 10 s",
        }
    }

    /// Whether an operator does it on purpose: then no request may fail.
    pub const fn is_planned(self) -> bool {
        matches!(self, Self::Rolling | Self::Join)
    }

    pub const fn needs_etcd(self) -> bool {
        matches!(self, Self::Join | Self::EtcdAll | Self::EtcdOne)
    }

    pub const fn needs_network(self) -> bool {
        matches!(self, Self::Partition)
    }

    /// Does it, and undoes it. When the others stopped asking the node that was struck, if one was.
    pub async fn run(self, fleet: &mut Fleet) -> Option<Ejected> {
        match self {
            Self::Kill => {
                let watch = Watch::of(fleet, 0, &[1, 2]);
                fleet.nodes[0].kill();
                let ejected = watch.during(AWAY).await;
                fleet.spawn(0);
                fleet.ready(0).await;
                Some(ejected)
            }
            Self::Pause => {
                let watch = Watch::of(fleet, 0, &[1, 2]);
                fleet.nodes[0].signal(Signal::STOP);
                let ejected = watch.during(AWAY).await;
                fleet.nodes[0].signal(Signal::CONT);
                Some(ejected)
            }
            Self::Rolling => {
                for index in 0..fleet.nodes.len() {
                    fleet.restart(index).await;
                }
                None
            }
            Self::Join => {
                let newcomer = fleet.nodes.len() - 1;
                fleet.spawn(newcomer);
                fleet.ready(newcomer).await;
                None
            }
            Self::EtcdAll => {
                let etcd = fleet.etcd.as_mut().expect("the scenario asked for etcd");
                etcd.kill(0..3);
                sleep(ETCD_AWAY).await;
                etcd.restart().await;
                None
            }
            Self::EtcdOne => {
                let etcd = fleet.etcd.as_mut().expect("the scenario asked for etcd");
                etcd.kill(0..1);
                sleep(AWAY).await;
                etcd.restart().await;
                None
            }
            Self::Partition => {
                let watch = Watch::of(fleet, 0, &[1]);
                let network = fleet.network.as_ref().expect("the scenario asked for a network");
                network.cut(0, 1, true);
                let ejected = watch.during(AWAY).await;
                network.cut(0, 1, false);
                Some(ejected)
            }
        }
    }
}
