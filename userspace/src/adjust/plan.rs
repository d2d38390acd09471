//! Orders the calls for a group of resources into stages.
//!
//! All minors exist before the first disk is attached, so that `resync-after` may name any
//! resource; the network comes last (`reference/userland.md 2.5`).

use super::call::{Call, Limit, Maker};
use super::diff::{Change, Difference};
use crate::config::resolve::View;

/// The stages, in the order in which they are carried out.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stage {
    /// Create resources and minors.
    CreateResource,
    /// Change resource options.
    AdjustResource,
    /// Take down what is in the way.
    PrepareDisk,
    /// Attach disks and change their options.
    AdjustDisk,
    /// Disconnect what is in the way.
    PrepareNet,
    /// Connect and change network options.
    AdjustNet,
}

impl Stage {
    /// All stages in order.
    pub(crate) const ALL: [Self; 6] = [
        Self::CreateResource,
        Self::AdjustResource,
        Self::PrepareDisk,
        Self::AdjustDisk,
        Self::PrepareNet,
        Self::AdjustNet,
    ];

    /// Returns the name that `adjust-with-progress` prints.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CreateResource => "create res",
            Self::AdjustResource => "adjust res",
            Self::PrepareDisk => "prepare disk",
            Self::AdjustDisk => "adjust disk",
            Self::PrepareNet => "prepare net",
            Self::AdjustNet => "adjust net",
        }
    }

    /// Reports whether nothing else can be done for the resource after a failure in this stage.
    pub(crate) const fn is_vital(self) -> bool {
        matches!(self, Self::CreateResource | Self::PrepareDisk)
    }
}

/// What to remember or forget about the configuration file once a step is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Register {
    /// The minor belongs to this configuration.
    Minor(u32),
    /// Nothing.
    No,
    /// The resource belongs to this configuration.
    Resource,
}

/// One piece of work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    /// When it is done.
    pub(crate) stage: Stage,
    /// For which resource.
    pub(crate) resource: String,
    /// The command of drbdadm that would do it alone; for messages.
    pub(crate) command: &'static str,
    /// The calls, each only if the one before succeeded.
    pub(crate) calls: Vec<Call>,
    /// What follows success.
    pub(crate) register: Register,
}

impl Step {
    /// Whether it takes a minor that a step of the same stage may have to free.
    fn is_replacement(&self) -> bool {
        self.stage == Stage::PrepareDisk && self.register != Register::No
    }
}

/// Collects steps and hands them out stage by stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// Returns the steps of one stage, in the order in which they were added, except that nothing
    /// takes the place of what is in the way before all of that is down.
    pub(crate) fn stage(&self, stage: Stage) -> impl Iterator<Item = &Step> {
        let those = move |replacing: bool| {
            let of_stage = self.steps.iter().filter(move |step| step.stage == stage);
            of_stage.filter(move |step| step.is_replacement() == replacing)
        };
        those(false).chain(those(true))
    }

    /// Returns all steps in the order in which they are carried out.
    #[cfg(test)]
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Step> {
        Stage::ALL.into_iter().flat_map(|stage| self.stage(stage))
    }

    /// Adds the work of `drbdadm up`; `only` picks one volume.
    pub(crate) fn up(&mut self, maker: &Maker<'_>, only: Option<u32>) {
        self.add(
            maker.view,
            Stage::CreateResource,
            "new-resource",
            vec![maker.new_resource()],
        )
        .register = Register::Resource;
        let wanted = |number: u32| only.is_none_or(|only| only == number);
        for volume in maker
            .view
            .volumes()
            .iter()
            .filter(|volume| wanted(volume.number))
        {
            let calls = vec![maker.new_minor(volume)];
            self.add(maker.view, Stage::CreateResource, "new-minor", calls)
                .register = Register::Minor(volume.minor);
            let calls = maker.attach(volume).to_vec();
            self.add(maker.view, Stage::AdjustDisk, "attach", calls);
        }
        self.add(
            maker.view,
            Stage::AdjustNet,
            "connect",
            vec![maker.connect()],
        );
    }

    /// Adds the work that removes `difference`.
    pub(crate) fn adjust(&mut self, maker: &Maker<'_>, difference: &Difference) {
        let view = maker.view;
        for change in &difference.changes {
            match change {
                Change::CreateResource => {
                    let calls = vec![maker.new_resource()];
                    self.add(view, Stage::CreateResource, "new-resource", calls)
                        .register = Register::Resource;
                }
                Change::ResourceOptions(_) => {
                    let calls = vec![maker.adjust_resource()];
                    self.add(view, Stage::AdjustResource, "resource-options", calls);
                }
                Change::CreateMinor(volume) => {
                    let calls = vec![maker.new_minor(volume)];
                    self.add(view, Stage::PrepareDisk, "new-minor", calls)
                        .register = Register::Minor(volume.minor);
                }
                Change::Detach(minor) => {
                    let call = Call::setup(Limit::Medium, ["detach".to_owned(), minor.to_string()]);
                    self.add(view, Stage::PrepareDisk, "detach", vec![call]);
                }
                Change::DeleteMinor(minor) => {
                    let words = ["del-minor".to_owned(), minor.to_string()];
                    let call = Call::setup(Limit::Short, words);
                    self.add(view, Stage::PrepareDisk, "del-minor", vec![call]);
                }
                Change::Attach(volume) => {
                    let calls = maker.attach(volume).to_vec();
                    self.add(view, Stage::AdjustDisk, "attach", calls);
                }
                Change::Resize(volume, _) => {
                    let calls = maker.resize(volume).to_vec();
                    self.add(view, Stage::AdjustDisk, "resize", calls);
                }
                Change::DiskOptions(volume, _) => {
                    let calls = vec![maker.adjust_disk(volume)];
                    self.add(view, Stage::AdjustDisk, "disk-options", calls);
                }
                Change::Disconnect(endpoints) => {
                    let call = Call::setup(Limit::Short, ["disconnect"]);
                    self.add(
                        view,
                        Stage::PrepareNet,
                        "disconnect",
                        vec![call.with(endpoints)],
                    );
                }
                Change::Connect => {
                    self.add(view, Stage::AdjustNet, "connect", vec![maker.connect()]);
                }
                Change::NetOptions(_) => {
                    let call = maker
                        .net_options_call()
                        .with(&["--set-defaults".to_owned()]);
                    let calls = vec![call.options(&maker.net_options())];
                    self.add(view, Stage::AdjustNet, "net-options", calls);
                }
            }
        }
    }

    fn add(
        &mut self,
        view: &View<'_>,
        stage: Stage,
        command: &'static str,
        calls: Vec<Call>,
    ) -> &mut Step {
        let resource = view.name().to_owned();
        self.steps.push(Step {
            stage,
            resource,
            command,
            calls,
            register: Register::No,
        });
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adjust::diff::compare;
    use crate::config::local::Node;
    use crate::config::model::Config;
    use crate::config::parser;
    use crate::config::resolve::resolve;

    const TWO: &str = "
        resource late { disk { resync-after early/1; } device minor 5; disk /l; meta-disk internal;
            floating 10.0.0.1:1; floating 10.0.0.2:1; }
        resource early {
            volume 1 { device minor 1; disk /a; meta-disk internal; }
            volume 0 { device minor 0; disk /b; meta-disk internal; }
            floating ipv6 [fd00::1]:2; floating ipv6 [fd00::2]:2; }";

    fn planned(fill: impl Fn(&mut Plan, &Maker<'_>)) -> Vec<String> {
        let mut config = Config::default();
        let path = std::path::Path::new("/test.conf");
        parser::parse(&mut config, "test.conf", path, TWO.to_owned()).expect("a configuration");
        let config = config.expanded();
        let node = Node::for_test("somewhere", &["10.0.0.1", "fd00::1"]);
        let views = resolve(&config, &node, None).expect("two resources");
        let mut plan = Plan::default();
        for view in &views {
            let maker = Maker {
                views: &views,
                view,
                node: "somewhere",
            };
            fill(&mut plan, &maker);
        }
        let calls = plan.in_order().flat_map(|step| &step.calls);
        calls.map(|call| call.args.join(" ")).collect()
    }

    #[test]
    fn all_minors_exist_before_the_first_attach() {
        let up = planned(|plan, maker| plan.up(maker, None));
        let first = |word: &str| up.iter().position(|call| call.starts_with(word)).unwrap();
        let last = |word: &str| up.iter().rposition(|call| call.starts_with(word)).unwrap();
        assert!(last("new-minor") < first("attach"), "{up:#?}");
        assert!(last("attach") < first("connect"), "{up:#?}");
        assert_eq!(up[2], "new-resource early", "in the order of the file");
        assert_eq!(up[3..5], ["new-minor early 0 0", "new-minor early 1 1"]);
        assert!(up.contains(&"attach 5 /l /l internal --resync-after=1".to_owned()));
    }

    #[test]
    fn adjusting_a_stopped_resource_does_what_up_does() {
        let mut up = planned(|plan, maker| plan.up(maker, None));
        let mut adjust = planned(|plan, maker| plan.adjust(maker, &compare(maker, None)));
        up.sort();
        adjust.sort();
        assert_eq!(up, adjust);
    }

    /// As [`TWO`], but each resource has minors of the other one.
    const SWAPPED: &str = "
        resource late { _this_host { address ipv4 10.0.0.1:1;
            volume 0 { device minor 1; disk /l; meta-disk internal; } } }
        resource early { _this_host {
            volume 0 { device minor 5; disk /b; meta-disk internal; }
            volume 1 { device minor 0; disk /a; meta-disk internal; } } }";

    #[test]
    fn a_minor_is_free_before_another_volume_takes_it() {
        let mut running = Config::default();
        parser::parse_running(&mut running, "all", SWAPPED.to_owned()).expect("two resources");
        let adjust = planned(|plan, maker| {
            let running = running.resource(maker.view.name());
            plan.adjust(maker, &compare(maker, running));
        });
        for minor in ["0", "1", "5"] {
            let at = |command: &str, word: usize| {
                let is_it = |call: &String| {
                    call.starts_with(command) && call.split(' ').nth(word) == Some(minor)
                };
                adjust.iter().position(is_it).expect(command)
            };
            assert!(at("detach", 1) < at("del-minor", 1), "{adjust:#?}");
            assert!(at("del-minor", 1) < at("new-minor", 2), "{adjust:#?}");
            assert!(at("new-minor", 2) < at("attach", 1), "{adjust:#?}");
        }
    }
}
