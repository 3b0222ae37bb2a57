//! The XDP program at one interface.
//!
//! **Start.** The object is loaded, its maps are filled, and only then is it attached: in the driver, else at the stack's door,
//! else not at all, with a reason. Where bpffs is there, the attachment (a link) and what must outlive a process (the
//! indirection table, the flows that moved, counters, sources) are pinned under `<pin>/<interface>/`; a node that starts again puts its
//! program in place of the old one in one step, and no packet sees a gap.
//!
//! **Rules.** [`Steering::apply`] checks all of them, then writes: new prefixes before old ones go, Maglev tables into entries
//! that no VIP uses before VIPs point there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, CpuMap, HashMap as BpfMap, IterableMap as _, LpmTrie, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::Xdp;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::{Ebpf, EbpfLoader};
use plane_abi::steering::{Protocol, Rules, RulesError};

use crate::abi::{self, BUCKETS, Bucket, Cfg, Deny, DropEvent, PortKey, Real, Slot, SlotLoad, Tally, Vip, VipKey};
use crate::interface::Interface;
use crate::report::{CpuReport, Mode, Report, reason_name};
use crate::rules::{self, Plan, Pool};
use crate::slots::{self, Move};
use crate::takers;

/// Frames that wait for a CPU.
const CPU_QUEUE: u32 = 2048;
/// A drop in 64 is reported.
const SAMPLE_MASK: u32 = 63;
/// Drop events taken at a time.
const EVENTS_MAX: usize = 256;
/// What a node that starts again goes on with.
const KEPT: [&str; 5] = ["indir", "slot_loads", "flows", "rate", "stats"];

/// How to steer.
#[derive(Clone, Debug)]
pub struct Config {
    /// The interface.
    pub interface: String,
    /// Ports that are served: only their packets are judged and steered.
    pub ports: Vec<(u16, Protocol)>,
    /// The CPUs of the shards; fewer than two: nothing is spread.
    pub cpus: Vec<u32>,
    /// A folder on bpffs; none: nothing is pinned, and the program goes with this process.
    pub pin: Option<PathBuf>,
    /// Try the driver first.
    pub driver: bool,
    /// The hardware address that frames for this node bear; none: the interface's own.
    pub mac: Option<[u8; 6]>,
}

/// Why there is no steering. The node serves without.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// This build has no programs.
    #[error("this build has no eBPF programs: {0}")]
    NotBuilt(&'static str),
    /// No such interface.
    #[error("interface {0}: {1}")]
    Interface(String, #[source] io::Error),
    /// The kernel refuses the programs or maps: privileges, as a rule.
    #[error("the kernel does not load the programs (CAP_BPF and CAP_NET_ADMIN are needed): {0}")]
    Load(String),
    /// Neither driver nor stack takes it.
    #[error("interface {0} takes no XDP program: {1}")]
    Attach(String, String),
    /// A map could not be written.
    #[error("map {0}: {1}")]
    Map(&'static str, String),
}

/// Why rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Nothing was written; the rules before go on.
    #[error(transparent)]
    Refused(#[from] RulesError),
    /// The kernel refused a write in the middle: to be applied again.
    #[error("map {0}: {1}")]
    Map(&'static str, String),
}

type Deny4 = BTreeMap<(u32, [u8; 4]), (u64, u32)>;
type Deny6 = BTreeMap<(u32, [u8; 16]), (u64, u32)>;

/// The program at its interface. Dropping it leaves a pinned program where it is and takes another off.
pub struct Steering {
    program: Ebpf,
    interface: Interface,
    link: Option<Attached>,
    config: Config,
    base: Cfg,
    maps: Maps,
    applied: Applied,
    packets_before: Vec<u64>,
    takers: usize,
}

enum Attached {
    Pinned(PinnedLink, Mode),
    Held(#[allow(dead_code)] FdLink, Mode),
}

struct Maps {
    cfg: Array<MapData, Cfg>,
    indir: Array<MapData, Slot>,
    slot_loads: PerCpuArray<MapData, SlotLoad>,
    cpus: CpuMap<MapData>,
    deny4: LpmTrie<MapData, [u8; 4], Deny>,
    deny6: LpmTrie<MapData, [u8; 16], Deny>,
    stats: PerCpuArray<MapData, Tally>,
    events: RingBuf<MapData>,
    ports: BpfMap<MapData, PortKey, u32>,
    vips: BpfMap<MapData, VipKey, Vip>,
    buckets: Array<MapData, Bucket>,
    reals: Array<MapData, Real>,
}

/// What the maps hold, so that only differences are written.
#[derive(Default)]
struct Applied {
    deny4: Deny4,
    deny6: Deny6,
    vips: HashMap<[u8; 20], u32>,
    /// Kernel table by what it holds.
    pools: HashMap<Pool, u32>,
    reals: HashMap<[u8; 6], u16>,
    seed: u32,
}

fn map_error(name: &'static str) -> impl Fn(MapError) -> ApplyError {
    move |error| ApplyError::Map(name, chain(&error))
}

/// An error with its causes: aya's say what failed only in theirs.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

impl Maps {
    fn take(program: &mut Ebpf) -> Result<Maps, Unavailable> {
        macro_rules! take {
            ($name:literal) => {
                program
                    .take_map($name)
                    .ok_or(Unavailable::Map($name, "is not in the object".to_owned()))?
                    .try_into()
                    .map_err(|error: MapError| Unavailable::Map($name, chain(&error)))?
            };
        }
        Ok(Maps {
            cfg: take!("cfg"),
            indir: take!("indir"),
            slot_loads: take!("slot_loads"),
            cpus: take!("cpus"),
            deny4: take!("deny4"),
            deny6: take!("deny6"),
            stats: take!("stats"),
            events: take!("events"),
            ports: take!("ports"),
            vips: take!("vips"),
            buckets: take!("buckets"),
            reals: take!("reals"),
        })
    }
}

impl Steering {
    /// Loads and prepares the program without an interface to attach it to: for [`attach`](Steering::attach), and for tests that run
    /// packets through it.
    pub fn load(config: Config) -> Result<Steering, Unavailable> {
        let object = programs::STEER.map_err(Unavailable::NotBuilt)?;
        let mut interface = Interface::find(&config.interface)
            .map_err(|error| Unavailable::Interface(config.interface.clone(), error))?;
        interface.mac = config.mac.unwrap_or(interface.mac);
        let pins = config.pin.as_deref().and_then(|pin| folder(pin, &config.interface));
        let kept = pins.map(|folder| folder.join(format!("maps-{}", abi::ABI)));
        let kept = kept.filter(|folder| fs::create_dir_all(folder).is_ok());
        let mut program = load(object, kept.as_deref())?;
        let xdp: &mut Xdp = xdp(&mut program)?;
        xdp.load().map_err(|error| Unavailable::Load(chain(&error)))?;
        let maps = Maps::take(&mut program)?;
        let flags = if config.cpus.len() > 1 { abi::CFG_STEER } else { 0 };
        let base = Cfg {
            flags,
            sample_mask: SAMPLE_MASK,
            flow_seed: flow_seed(&config.interface),
            mac: interface.mac,
            ..Cfg::default()
        };
        let applied = Applied::default();
        let packets_before = vec![0; abi::SLOTS];
        let mut steering =
            Steering { program, interface, link: None, config, base, maps, applied, packets_before, takers: 0 };
        steering.fill().map_err(|error| match error {
            ApplyError::Map(name, text) => Unavailable::Map(name, text),
            ApplyError::Refused(error) => Unavailable::Map("rules", error.to_string()),
        })?;
        Ok(steering)
    }

    /// Loads the program and attaches it. `rules` are in force from the first packet on.
    pub fn start(config: Config, rules: &Rules, seed: u32, clock: Clock) -> Result<Steering, Unavailable> {
        let mut steering = Steering::load(config)?;
        // Rules that are refused were refused before, with the snapshot: steering is of use without them.
        let _ = steering.apply(rules, seed, clock);
        steering.attach()?;
        Ok(steering)
    }

    /// Fills what does not depend on rules.
    fn fill(&mut self) -> Result<(), ApplyError> {
        for cpu in &self.config.cpus {
            self.maps.cpus.set(*cpu, CPU_QUEUE, None, 0).map_err(|error| ApplyError::Map("cpus", chain(&error)))?;
        }
        let map = self.maps.cpus.map().info().map_err(map_error("cpus"))?.id();
        self.takers = takers::let_shards_finish(map, &self.config.cpus);
        // A table that was kept is gone on with, unless it names CPUs that have no shard now.
        let kept: Vec<Slot> = self.maps.indir.iter().collect::<Result<_, _>>().map_err(map_error("indir"))?;
        let fits = |slot: &Slot| self.config.cpus.contains(&slot.cpu) && self.config.cpus.contains(&slot.origin);
        let spread = self.config.cpus.iter().all(|cpu| kept.iter().any(|slot| slot.cpu == *cpu));
        if !spread || !kept.iter().all(fits) {
            for (index, cpu) in slots::even(&self.config.cpus).into_iter().enumerate() {
                let slot = Slot { cpu, origin: cpu };
                self.maps.indir.set(index as u32, slot, 0).map_err(map_error("indir"))?;
            }
        }
        for (port, protocol) in &self.config.ports {
            let key = PortKey { port: port.to_be(), protocol: rules::protocol_number(*protocol) };
            self.maps.ports.insert(key, 1, 0).map_err(map_error("ports"))?;
        }
        self.maps.cfg.set(0, self.base, 0).map_err(map_error("cfg"))?;
        self.packets_before = self.slot_packets();
        Ok(())
    }

    /// Attaches the program: in place of the one that is pinned, or anew.
    pub fn attach(&mut self) -> Result<Mode, Unavailable> {
        if self.interface.loopback {
            let why = "packets of the loopback interface come from this machine's own processes".to_owned();
            return Err(Unavailable::Attach(self.interface.name.clone(), why));
        }
        if let Some(mode) = self.take_over() {
            return Ok(mode);
        }
        let mut why = String::new();
        let driver = self.config.driver;
        for mode in [Mode::Driver, Mode::Skb].into_iter().filter(|mode| driver || *mode == Mode::Skb) {
            match self.attach_as(mode) {
                Ok(link) => {
                    self.link = Some(link);
                    return Ok(mode);
                }
                Err(error) => why = error,
            }
        }
        Err(Unavailable::Attach(self.interface.name.clone(), why))
    }

    fn attach_as(&mut self, mode: Mode) -> Result<Attached, String> {
        let link = self.new_link(mode)?;
        let Some(path) = self.link_path(mode) else { return Ok(Attached::Held(link, mode)) };
        // Pinning takes the link with it where it fails.
        match link.pin(&path) {
            Ok(pinned) => Ok(Attached::Pinned(pinned, mode)),
            Err(_) => self.new_link(mode).map(|link| Attached::Held(link, mode)),
        }
    }

    fn new_link(&mut self, mode: Mode) -> Result<FdLink, String> {
        let flag = if mode == Mode::Driver { XdpMode::Driver } else { XdpMode::Skb };
        let xdp = xdp(&mut self.program).map_err(|error| error.to_string())?;
        let id = xdp.attach_to_if_index(self.interface.index, flag).map_err(|error| chain(&error))?;
        let link = xdp.take_link(id).map_err(|error| chain(&error))?;
        link.try_into().map_err(|_| "this kernel has no links for XDP".to_owned())
    }

    /// Puts this program in place of the pinned one, if there is one that is attached to an interface that still is.
    fn take_over(&mut self) -> Option<Mode> {
        for mode in [Mode::Driver, Mode::Skb] {
            let path = self.link_path(mode)?;
            let Ok(pinned) = PinnedLink::from_pin(&path) else { continue };
            let replaced = XdpLink::try_from(FdLink::from(pinned)).ok().and_then(|link| {
                let xdp = xdp(&mut self.program).ok()?;
                let id = xdp.attach_to_link(link).ok()?;
                xdp.take_link(id).ok()
            });
            // The pin keeps it, not the descriptor that was used.
            if let (Some(_), Ok(pinned)) = (replaced, PinnedLink::from_pin(&path)) {
                self.link = Some(Attached::Pinned(pinned, mode));
                return Some(mode);
            }
            // Its interface is gone.
            let _ = fs::remove_file(&path);
        }
        None
    }

    fn link_path(&self, mode: Mode) -> Option<PathBuf> {
        let name = if mode == Mode::Driver { "link-driver" } else { "link-skb" };
        Some(folder(self.config.pin.as_deref()?, &self.interface.name)?.join(name))
    }

    /// Takes the program off its interface, pinned or not.
    pub fn detach(mut self) {
        if let Some(Attached::Pinned(pinned, _)) = self.link.take() {
            drop(pinned.unpin());
        }
        if let Some(folder) = self.config.pin.as_deref().and_then(|pin| folder(pin, &self.interface.name)) {
            let _ = fs::remove_dir_all(folder);
        }
    }

    /// Where the map of the listening sockets of a port is to be kept, if anything can be.
    pub fn place_for_sockets(&self, port: u16) -> Option<PathBuf> {
        let folder = folder(self.config.pin.as_deref()?, &self.interface.name)?.join(format!("maps-{}", abi::ABI));
        fs::create_dir_all(&folder).ok()?;
        Some(folder.join(format!("socks-{port}")))
    }

    /// Whether the interface that it is attached to is still there.
    pub fn interface_is_there(&self) -> bool {
        Interface::find(&self.interface.name).is_ok_and(|found| found.index == self.interface.index)
    }

    /// Puts rules in force. `seed` is the fleet's: every node must be given the same.
    pub fn apply(&mut self, rules: &Rules, seed: u32, clock: Clock) -> Result<(), ApplyError> {
        let plan = rules::plan(rules, self.interface.mac)?;
        self.write_deny(&plan, clock)?;
        self.write_vips(&plan)?;
        let cfg = Cfg { balance_seed: seed, ..plan.configure(self.base) };
        self.maps.cfg.set(0, cfg, 0).map_err(map_error("cfg"))?;
        self.applied.seed = seed;
        Ok(())
    }

    fn write_deny(&mut self, plan: &Plan, clock: Clock) -> Result<(), ApplyError> {
        let value = |(expires_unix_s, reason): &(u64, u32)| Deny {
            expires_ns: clock.monotonic_ns(*expires_unix_s),
            reason: *reason,
            zero: 0,
        };
        let maps = &mut self.maps;
        for ((bits, address), wanted) in plan.deny4.iter().filter(|(key, it)| self.applied.deny4.get(key) != Some(it)) {
            maps.deny4.insert(&Key::new(*bits, *address), value(wanted), 0).map_err(map_error("deny4"))?;
        }
        for ((bits, address), wanted) in plan.deny6.iter().filter(|(key, it)| self.applied.deny6.get(key) != Some(it)) {
            maps.deny6.insert(&Key::new(*bits, *address), value(wanted), 0).map_err(map_error("deny6"))?;
        }
        for (bits, address) in self.applied.deny4.keys().filter(|key| !plan.deny4.contains_key(key)) {
            maps.deny4.remove(&Key::new(*bits, *address)).map_err(map_error("deny4"))?;
        }
        for (bits, address) in self.applied.deny6.keys().filter(|key| !plan.deny6.contains_key(key)) {
            maps.deny6.remove(&Key::new(*bits, *address)).map_err(map_error("deny6"))?;
        }
        self.applied.deny4 = plan.deny4.clone();
        self.applied.deny6 = plan.deny6.clone();
        Ok(())
    }

    fn write_vips(&mut self, plan: &Plan) -> Result<(), ApplyError> {
        let mut tables = Vec::with_capacity(plan.pools.len());
        for pool in &plan.pools {
            let table = match self.applied.pools.get(pool) {
                Some(table) => *table,
                None => self.write_pool(pool)?,
            };
            tables.push(table);
        }
        let wanted: HashMap<[u8; 20], u32> = plan.vips.iter().map(|(key, pool)| (*key, tables[*pool])).collect();
        for (key, pool) in wanted.iter().filter(|(key, pool)| self.applied.vips.get(*key) != Some(*pool)) {
            let vip = Vip { pool: *pool, zero: 0 };
            self.maps.vips.insert(vip_key(key), vip, 0).map_err(map_error("vips"))?;
        }
        for key in self.applied.vips.keys().filter(|key| !wanted.contains_key(*key)) {
            self.maps.vips.remove(&vip_key(key)).map_err(map_error("vips"))?;
        }
        self.applied.vips = wanted;
        self.applied.pools.retain(|pool, _| plan.pools.contains(pool));
        let used: HashSet<[u8; 6]> = plan.pools.iter().flatten().flatten().copied().collect();
        self.applied.reals.retain(|mac, _| used.contains(mac));
        Ok(())
    }

    /// Writes a table that no VIP uses, and gives its number.
    fn write_pool(&mut self, pool: &Pool) -> Result<u32, ApplyError> {
        for mac in pool.iter().flatten() {
            if self.applied.reals.contains_key(mac) {
                continue;
            }
            let taken: Vec<u16> = self.applied.reals.values().copied().collect();
            let free = (1..abi::REALS_MAX as u16).find(|number| !taken.contains(number));
            let number = free.ok_or(ApplyError::Map("reals", "is full".to_owned()))?;
            let real = rules::real(*mac, self.interface.mac);
            self.maps.reals.set(u32::from(number), real, 0).map_err(map_error("reals"))?;
            self.applied.reals.insert(*mac, number);
        }
        let taken: Vec<u32> = self.applied.pools.values().copied().collect();
        let free = (0..abi::POOLS_MAX as u32).find(|table| !taken.contains(table));
        let table = free.ok_or(ApplyError::Map("buckets", "is full".to_owned()))?;
        let numbers = &self.applied.reals;
        let buckets = rules::buckets(pool, |mac| numbers.get(mac).copied().unwrap_or(0));
        for (at, bucket) in buckets.into_iter().enumerate() {
            let index = table * BUCKETS as u32 + at as u32;
            self.maps.buckets.set(index, bucket, 0).map_err(map_error("buckets"))?;
        }
        self.applied.pools.insert(pool.clone(), table);
        Ok(table)
    }

    /// Moves slots of CPUs that got more than their share of packets since the last call. Flows that have begun stay.
    pub fn rebalance(&mut self) -> Result<Vec<Move>, ApplyError> {
        let now = self.slot_packets();
        let window: Vec<u64> =
            now.iter().zip(&self.packets_before).map(|(now, before)| now.saturating_sub(*before)).collect();
        self.packets_before = now;
        let table = self.table()?;
        let moves = slots::rebalance(&window, &table, &self.config.cpus);
        for Move { slot, cpu } in &moves {
            self.move_slot(*slot, *cpu)?;
        }
        Ok(moves)
    }

    /// Sends a slot's new flows to a CPU.
    pub fn move_slot(&mut self, slot: usize, cpu: u32) -> Result<(), ApplyError> {
        let index = slot as u32;
        let origin = self.maps.indir.get(&index, 0).map_err(map_error("indir"))?.origin;
        self.maps.indir.set(index, Slot { cpu, origin }, 0).map_err(map_error("indir"))
    }

    /// The CPU of each slot's new flows.
    pub fn table(&self) -> Result<Vec<u32>, ApplyError> {
        self.maps.indir.iter().map(|slot| slot.map(|slot| slot.cpu).map_err(map_error("indir"))).collect()
    }

    fn slot_packets(&self) -> Vec<u64> {
        let packets = |slot: u32| {
            let loads = self.maps.slot_loads.get(&slot, 0).ok();
            loads.map_or(0, |loads| loads.iter().map(|load| load.packets).sum())
        };
        (0..abi::SLOTS as u32).map(packets).collect()
    }

    /// Sampled drops since the last call, at most 256.
    pub fn drops(&mut self) -> Vec<DropEvent> {
        let mut drops = Vec::new();
        while drops.len() < EVENTS_MAX
            && let Some(item) = self.maps.events.next()
        {
            drops.extend(read_event(&item));
        }
        drops
    }

    /// What happened so far.
    pub fn report(&self) -> Report {
        let mut cpus: Vec<CpuReport> = Vec::new();
        for reason in 0..abi::REASONS as u32 {
            let Ok(tallies) = self.maps.stats.get(&reason, 0) else { continue };
            for (cpu, tally) in tallies.iter().enumerate() {
                if cpus.len() <= cpu {
                    cpus.push(CpuReport { cpu, ..CpuReport::default() });
                }
                if tally.packets > 0 {
                    cpus[cpu].packets.push((reason_name(reason as usize).to_owned(), tally.packets));
                }
            }
        }
        let slots: Vec<Slot> = self.maps.indir.iter().filter_map(Result::ok).collect();
        let (mode, pinned) = match &self.link {
            Some(Attached::Pinned(_, mode)) => (Some(*mode), true),
            Some(Attached::Held(_, mode)) => (Some(*mode), false),
            None => (None, false),
        };
        Report {
            interface: self.interface.name.clone(),
            mode,
            pinned,
            problem: None,
            moved: slots.iter().filter(|slot| slot.cpu != slot.origin).count(),
            table: slots.iter().map(|slot| slot.cpu).collect(),
            cpus,
            denied: self.applied.deny4.len() + self.applied.deny6.len(),
            vips: self.applied.vips.len(),
            takers: self.takers,
        }
    }

    /// The program, for tests that run packets through it.
    pub fn program(&mut self) -> Result<&mut Xdp, Unavailable> {
        xdp(&mut self.program)
    }

    /// Changes the switches that the node chooses, for tests.
    pub fn configure(&mut self, change: impl FnOnce(&mut Cfg)) -> Result<(), ApplyError> {
        change(&mut self.base);
        self.maps.cfg.set(0, self.base, 0).map_err(map_error("cfg"))
    }
}

/// Both clocks at one moment, to turn the end of a rule into the kernel's time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Seconds since the Unix epoch.
    pub unix_s: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub monotonic_ns: u64,
}

impl Clock {
    /// Now.
    pub fn now() -> Clock {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let monotonic_ns = monotonic.tv_sec as u64 * 1_000_000_000 + monotonic.tv_nsec as u64;
        Clock { unix_s: since.as_secs(), monotonic_ns }
    }

    /// A moment's monotonic time; 0 stays 0, which is never; what has passed is 1.
    fn monotonic_ns(self, unix_s: u64) -> u64 {
        match unix_s {
            0 => 0,
            at if at <= self.unix_s => 1,
            at => self.monotonic_ns.saturating_add((at - self.unix_s).saturating_mul(1_000_000_000)),
        }
    }
}

/// Where an interface's pins are: by its network namespace, too, for all of them share one bpffs. None where there is none.
fn folder(pin: &Path, interface: &str) -> Option<PathBuf> {
    const BPFFS: u64 = 0xcafe_4a11;
    let namespace = fs::metadata("/proc/thread-self/ns/net").ok()?.ino();
    let folder = pin.join(format!("{namespace}-{interface}"));
    fs::create_dir_all(&folder).ok()?;
    let filesystem = rustix::fs::statfs(&folder).ok()?;
    (filesystem.f_type as u64 == BPFFS).then_some(folder)
}

fn load(object: &[u8], kept: Option<&Path>) -> Result<Ebpf, Unavailable> {
    let attempt = |kept: Option<&Path>| {
        let mut loader = EbpfLoader::new();
        for name in kept.iter().flat_map(|_| KEPT) {
            loader.map_pin_path(name, kept.map(|folder| folder.join(name)).unwrap_or_default());
        }
        loader.load(object)
    };
    match attempt(kept) {
        Ok(program) => Ok(program),
        Err(error) => match kept {
            // What is pinned there may be another build's.
            Some(folder) => {
                for name in KEPT {
                    let _ = fs::remove_file(folder.join(name));
                }
                attempt(kept).or_else(|_| attempt(None)).map_err(|error| Unavailable::Load(chain(&error)))
            }
            None => Err(Unavailable::Load(chain(&error))),
        },
    }
}

fn xdp(program: &mut Ebpf) -> Result<&mut Xdp, Unavailable> {
    let found = program.program_mut("steer").and_then(|program| program.try_into().ok());
    found.ok_or(Unavailable::Map("steer", "is not in the object".to_owned()))
}

/// The same at every start of this machine's kernel, so that flows keep their slots; unknown outside of it.
fn flow_seed(interface: &str) -> u32 {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    crate::maglev::fnv(format!("{boot}{interface}").as_bytes()) as u32
}

fn vip_key(bytes: &[u8; 20]) -> VipKey {
    let mut key = VipKey::default();
    key.address.copy_from_slice(&bytes[..16]);
    key.port = u16::from_ne_bytes([bytes[16], bytes[17]]);
    key.protocol = u16::from_ne_bytes([bytes[18], bytes[19]]);
    key
}

fn read_event(bytes: &[u8]) -> Option<DropEvent> {
    let bytes: &[u8; size_of::<DropEvent>()] = bytes.try_into().ok()?;
    let u64_at = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    let u32_at = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    let u16_at = |at: usize| u16::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    Some(DropEvent {
        time_ns: u64_at(0),
        source: std::array::from_fn(|i| bytes[8 + i]),
        target: std::array::from_fn(|i| bytes[24 + i]),
        source_port: u16_at(40),
        target_port: u16_at(42),
        reason: u16_at(44),
        protocol: bytes[46],
        family: bytes[47],
        bytes: u32_at(48),
        interface: u32_at(52),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_rule_in_the_kernels_time() {
        let clock = Clock { unix_s: 1_000, monotonic_ns: 5 };
        assert_eq!((clock.monotonic_ns(0), clock.monotonic_ns(999), clock.monotonic_ns(1_000)), (0, 1, 1));
        assert_eq!(clock.monotonic_ns(1_002), 2_000_000_005);
        assert_eq!(clock.monotonic_ns(u64::MAX), u64::MAX);
    }
}
