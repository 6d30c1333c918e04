//! A browser tab's connection: its messages in both directions. What is sent is fetched when the connection takes it
//! (frames from the terminals, the newest picture), so a slow page costs no memory and nobody else's time.

use crate::{
    error::Error,
    pty::Pty,
    session::{MAX_VIEWERS, Session},
    terminal::{Item, ViewerId},
    wire,
};
use drydock_protocol::{
    NodeName, TerminalId,
    control::{FromPage, ToPage},
    frame::ClientFrame,
    pipe::BINARY,
    state::Role,
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    rc::Rc,
    time::Instant,
};
use tokio::{
    io::{AsyncWriteExt, BufReader, Interest},
    net::{
        UnixStream,
        unix::{ReadHalf, WriteHalf},
    },
    sync::Notify,
};

/// Messages that wait to be sent; more of them make the page wait.
const MAX_OUTBOX: usize = 64;
/// Sent in one go, roughly.
const BATCH: usize = 64 * 1024;
/// Requests of one page that take time (a shell being started) at once.
const MAX_PENDING: usize = 16;
/// Longest name of a page, in bytes.
const MAX_CLIENT: usize = 64;

/// A page that has the session open.
pub struct Viewer {
    /// Number of its connection.
    pub id: ViewerId,
    /// What it may do.
    pub role: Role,
    /// The terminal that it looks at.
    pub focus: Cell<Option<TerminalId>>,
    client: String,
    attached: RefCell<Vec<TerminalId>>,
    outbox: RefCell<VecDeque<ToPage>>,
    /// Told when there is something to send.
    wake: Rc<Notify>,
    /// Told when the outbox was emptied or a pending request is done.
    eased: Notify,
    pending: Cell<usize>,
}

/// Serves a page until its connection ends.
pub async fn serve(
    session: Rc<Session>,
    mut stream: UnixStream,
    role: Role,
    client: String,
) -> io::Result<()> {
    if session.viewers.borrow().len() >= MAX_VIEWERS || client.len() > MAX_CLIENT {
        let text = format!("This session has {MAX_VIEWERS} viewers, which is the most.");
        let mut out = Vec::new();
        wire::put_text(&mut out, &wire::json(&ToPage::Notice { text, request: None }));
        return stream.write_all(&out).await;
    }
    let viewer = Rc::new(Viewer {
        id: session.new_viewer_id(),
        role,
        focus: Cell::new(None),
        client,
        attached: RefCell::default(),
        outbox: RefCell::default(),
        wake: Rc::new(Notify::new()),
        eased: Notify::new(),
        pending: Cell::new(0),
    });
    session.viewers.borrow_mut().insert(viewer.id, viewer.clone());
    session.changed();
    let (read, write) = stream.split();
    let done = tokio::select! {
        done = viewer.listen(&session, read) => done,
        done = viewer.talk(&session, write) => done,
    };
    session.viewers.borrow_mut().remove(&viewer.id);
    for id in viewer.attached.take() {
        if let Ok(pty) = session.terminal(id) {
            pty.detach(viewer.id);
        }
    }
    session.changed();
    done
}

// === impl Viewer: both directions ===

impl Viewer {
    /// The terminal is gone, or shows itself to this page no more.
    pub fn forget(&self, id: TerminalId) {
        self.attached.borrow_mut().retain(|t| *t != id);
    }

    /// Tells the page's user something. Dropped if too much waits already.
    pub fn notice(&self, text: String) {
        self.answer(ToPage::Notice { text, request: None });
    }

    fn answer(&self, message: ToPage) {
        let mut outbox = self.outbox.borrow_mut();
        // Twice the bound that makes the page wait: beyond are only notices that it did not ask for.
        if outbox.len() < 2 * MAX_OUTBOX {
            outbox.push_back(message);
            self.wake.notify_one();
        }
    }

    fn refuse(&self, request: Option<u32>, error: &Error) {
        self.answer(ToPage::Notice { text: error.sentence(), request });
    }

    fn may(&self, needed: Role, request: Option<u32>) -> bool {
        let may = self.role >= needed;
        if !may {
            let text = if needed == Role::Own {
                "Only the session's owner may do that."
            } else {
                "This link is for looking only."
            };
            self.answer(ToPage::Notice { text: text.into(), request });
        }
        may
    }
}

// === impl Viewer: from the page ===

impl Viewer {
    async fn listen(self: &Rc<Self>, session: &Rc<Session>, read: ReadHalf<'_>) -> io::Result<()> {
        let mut read = BufReader::with_capacity(4096, read);
        let mut payload = Vec::new();
        while let Some(tag) = wire::read(&mut read, &mut payload).await? {
            if tag == BINARY {
                match ClientFrame::decode(&payload) {
                    Ok(frame) => self.take_frame(session, frame, read.get_ref()).await?,
                    Err(e) => tracing::debug!(viewer = self.id, error = %e, "frame ignored"),
                }
            } else {
                match serde_json::from_slice(&payload) {
                    Ok(message) => self.take_message(session, message),
                    Err(e) => tracing::debug!(viewer = self.id, error = %e, "message ignored"),
                }
            }
            self.wait_for_ease().await;
        }
        Ok(())
    }

    /// A page that asks faster than it listens waits.
    async fn wait_for_ease(&self) {
        while self.outbox.borrow().len() >= MAX_OUTBOX || self.pending.get() >= MAX_PENDING {
            self.eased.notified().await;
        }
    }

    async fn take_frame(
        &self,
        session: &Session,
        frame: ClientFrame<'_>,
        connection: &ReadHalf<'_>,
    ) -> io::Result<()> {
        match frame {
            ClientFrame::Input { terminal, seq, bytes } => {
                if self.role < Role::Type || !session.take_input_seq(&self.client, seq) {
                    return Ok(());
                }
                session.touch();
                if let Ok(pty) = session.terminal(terminal) {
                    if pty.is_full(self.id) {
                        self.wait_for_space(session, &pty, connection).await?;
                    }
                    pty.put_input(self.id, bytes);
                }
            }
            ClientFrame::Resize { terminal, room } => {
                if let Some(pty) = self.attached_to(session, terminal) {
                    pty.machine.borrow_mut().room(self.id, room, Instant::now());
                    pty.poke();
                }
            }
            ClientFrame::Ack { terminal, offset } => {
                if let Some(pty) = self.attached_to(session, terminal) {
                    pty.machine.borrow_mut().ack(self.id, offset, Instant::now());
                    pty.poke_driver();
                    self.wake.notify_one();
                }
            }
        }
        Ok(())
    }

    /// The terminal's program reads nothing and enough input waits. This connection is not read meanwhile, so its
    /// acknowledgements must not hold any pty: the program may be waiting just for its output to go away.
    async fn wait_for_space(
        &self,
        session: &Session,
        pty: &Pty,
        connection: &ReadHalf<'_>,
    ) -> io::Result<()> {
        self.set_stalled(session, true);
        let waited = tokio::select! {
            () = pty.space(self.id) => Ok(()),
            // Priority data does not exist on these sockets: this is the other side's hanging up.
            gone = connection.ready(Interest::PRIORITY) => gone.and(Err(io::ErrorKind::ConnectionReset.into())),
        };
        self.set_stalled(session, false);
        waited
    }

    fn set_stalled(&self, session: &Session, stalled: bool) {
        for id in self.attached.borrow().iter() {
            if let Ok(pty) = session.terminal(*id) {
                pty.machine.borrow_mut().set_stalled(self.id, stalled, Instant::now());
                pty.poke();
            }
        }
    }

    fn attached_to(&self, session: &Session, id: TerminalId) -> Option<Rc<Pty>> {
        self.attached.borrow().contains(&id).then(|| session.terminal(id).ok()).flatten()
    }

    fn take_message(self: &Rc<Self>, session: &Rc<Session>, message: FromPage) {
        match message {
            FromPage::Attach { terminal, from } => match session.terminal(terminal) {
                Ok(pty) => {
                    self.forget(terminal);
                    self.attached.borrow_mut().push(terminal);
                    pty.attach(self.id, self.role >= Role::Type, from, self.wake.clone());
                }
                Err(e) => self.refuse(None, &e),
            },
            FromPage::Detach { terminal } => {
                self.forget(terminal);
                if let Ok(pty) = session.terminal(terminal) {
                    pty.detach(self.id);
                }
            }
            FromPage::Open { node, request } => {
                if self.may(Role::Type, Some(request)) {
                    self.in_background(open(self.clone(), session.clone(), node, request));
                }
            }
            FromPage::Close { terminal, anyway } => {
                if self.may(Role::Type, None) {
                    session.touch();
                    self.close(session, terminal, anyway);
                }
            }
            FromPage::Focus { terminal } => {
                self.focus.set(terminal);
                session.mark_dirty();
            }
            FromPage::Power { node, on } => {
                if self.may(Role::Own, None) {
                    self.in_background(power(self.clone(), session.clone(), node, on));
                }
            }
            FromPage::Ping { t } => self.answer(ToPage::Pong { t }),
            FromPage::Unknown => {}
        }
    }

    fn close(&self, session: &Session, terminal: TerminalId, anyway: bool) {
        let busy = (!anyway).then(|| session.terminal(terminal).ok()?.program()).flatten();
        if let Some(program) = busy {
            self.answer(ToPage::Busy { terminal, program });
        } else if let Err(e) = session.close_terminal(terminal) {
            self.refuse(None, &e);
        }
    }

    fn in_background(self: &Rc<Self>, work: impl Future<Output = ()> + 'static) {
        self.pending.set(self.pending.get() + 1);
        let viewer = self.clone();
        tokio::task::spawn_local(async move {
            work.await;
            viewer.pending.set(viewer.pending.get() - 1);
            viewer.eased.notify_one();
        });
    }
}

async fn open(viewer: Rc<Viewer>, session: Rc<Session>, node: NodeName, request: u32) {
    session.touch();
    match session.open_terminal(node).await {
        Ok(terminal) => viewer.answer(ToPage::Opened { request, terminal }),
        Err(e) => viewer.refuse(Some(request), &e),
    }
}

async fn power(viewer: Rc<Viewer>, session: Rc<Session>, node: NodeName, on: bool) {
    session.touch();
    if let Err(e) = session.power(node, on).await {
        viewer.refuse(None, &e);
    }
}

// === impl Viewer: to the page ===

impl Viewer {
    async fn talk(&self, session: &Session, mut write: WriteHalf<'_>) -> io::Result<()> {
        let mut pictures = session.picture.subscribe();
        let mut out = Vec::new();
        let input_seq = session.input_seq(&self.client);
        wire::put_text(&mut out, &wire::json(&ToPage::Hello { you: self.id, role: self.role, input_seq }));
        wire::put_text(&mut out, &wire::json(&ToPage::State { state: session.state() }));
        loop {
            // Also in the middle of a flood.
            if pictures.has_changed().unwrap_or(false) {
                wire::put_text(&mut out, &pictures.borrow_and_update());
            }
            self.collect(session, &mut out);
            if !out.is_empty() {
                write.write_all(&out).await?;
                out.clear();
                continue;
            }
            // Memory for a flood is not kept for a quiet page.
            out = Vec::new();
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                changed = pictures.changed() => {
                    pictures.mark_changed();
                    changed.map_err(io::Error::other)?;
                }
            }
        }
    }

    /// Gathers what there is to send, up to about [`BATCH`], one frame of each terminal in turn.
    fn collect(&self, session: &Session, out: &mut Vec<u8>) {
        let waiting = self.outbox.take();
        if !waiting.is_empty() {
            for message in waiting {
                wire::put_text(out, &wire::json(&message));
            }
            self.eased.notify_one();
        }
        let ptys: Vec<_> =
            self.attached.borrow().iter().filter_map(|id| session.terminal(*id).ok()).collect();
        let now = Instant::now();
        let mut more = true;
        while more && out.len() < BATCH {
            more = false;
            for pty in &ptys {
                let start = wire::begin(out, BINARY);
                let item = pty.machine.borrow_mut().next(self.id, now, out);
                match item {
                    Some(Item::Frame) => wire::end(out, start),
                    Some(Item::Answers(yes)) => {
                        wire::cancel(out, start);
                        wire::put_text(out, &wire::json(&ToPage::Answers { terminal: pty.id, yes }));
                    }
                    None => wire::cancel(out, start),
                }
                more |= item.is_some();
            }
        }
    }
}
