//! Names by which browser tests find things (`data-testid`). They stay when looks and words change.
//!
//! | on every page | |
//! |---|---|
//! | `notices` | list of sentences about what just happened (`notice` each) |
//! | **start page** | |
//! | `start-page` | the page |
//! | `playground-{name}` | radio button of a playground |
//! | `nodes-input`, `life-input` | number of nodes; life (select) |
//! | `start-button` | Start |
//! | `start-error` | why it did not work |
//! | `host-info` | how full the host is |
//! | `queue`, `queue-place`, `queue-leave` | the place in the queue |
//! | `own-session-{id}` | link to a session of this browser |
//! | **problem pages** | |
//! | `problem` | the page; `data-kind` = `forbidden`, `not-found`, `ended`, `limit`, `no-websocket`, `no-page` |
//! | `start-again`, `to-start` | ways on |
//! | **session page** | |
//! | `session-page` | the page; `data-role` = `view`, `type`, `own` |
//! | `home` | link to the start page |
//! | `session-name` | playground and id |
//! | `countdown`, `extend` | time left (`data-urgency` = `calm`, `soon`, `now`, `data-seconds`) |
//! | `time`, `time-dialog`, `time-text`, `extend-now` | the owner's button around it, and more time whenever it is wanted |
//! | `connection-state` | `data-state` = `connecting`, `up`, `lost`; the latency is its text |
//! | `connection-banner`, `retry-now` | shown after one second without connection |
//! | `view-badge` | this page may only look |
//! | `viewers` | number of pages that look |
//! | `toggle-docker`, `toggle-files`, `share`, `keyboard-map`, `theme-toggle`, `settings`, `end-session` | buttons of the top bar |
//! | `cluster`, `cluster-dialog`, `kubeconfig` | in sessions with Kubernetes: the button of the top bar, its dialog, the download |
//! | `end-confirm`, `end-cancel` | in the dialog `end-dialog` |
//! | `node-{node}` | a node's card; `data-power` = `starting`, `on`, `off` |
//! | `node-address-{node}`, `node-cpu-{node}`, `node-memory-{node}` | its figures |
//! | `node-containers-{node}` | how many containers run; opens the Docker view |
//! | `open-terminal-{node}`, `power-{node}`, `remove-{node}` | its buttons |
//! | `port-{node}-{port}` | a port's chip |
//! | `add-node` | adds a node |
//! | `limits` | what all nodes may use together |
//! | `tab-{terminal}` | a terminal's tab |
//! | `new-tab`, `split-right`, `split-down`, `close-tab` | buttons beside the tabs of a group |
//! | `terminal-{terminal}` | a terminal's pane |
//! | `empty-hint` | what to do when there is no terminal |
//! | `limit-{terminal}` | another screen has less room for it |
//! | `exit-{terminal}`, `restart-{terminal}` | its end, a new shell |
//! | `closing-{terminal}`, `close-{terminal}` | the question before it is closed, and yes |
//! | `search-{terminal}`, `search-result` | its search box (the input), which of how many is shown |
//! | `split-{n}`, `separator-nodes`, `separator-files` | lines that can be moved |
//! | `area-nodes`, `area-terminals`, `area-docker`, `area-files` | bottom tabs of a narrow screen |
//! | `key-{name}` | keys of the key bar: `esc`, `tab`, `ctrl`, `left`, `up`, `down`, `right`, … |
//! | **Docker view** | |
//! | `docker`, `docker-close` | the dock, its end |
//! | `docker-{node}` | what a node has; `docker-help-{node}` while it has no container |
//! | `container-{name}` | a container; `data-look` = `good`, `busy`, `bad`, `idle` |
//! | `open-{node}-{port}` | opens a published port |
//! | `logs-{name}`, `power-{name}`, `remove-{name}` | a container's buttons |
//! | **files** | |
//! | `files` | the dock |
//! | `files-node`, `files-path` | whose files, which directory |
//! | `upload-input`, `new-folder`, `new-file`, `new-name`, `files-reload`, `files-close` | its controls |
//! | `files-status`, `files-more` | how many entries there are (for screen readers), more of them |
//! | `file-{name}` | an entry's name; `edit-{name}`, `download-{name}`, `rename-{name}`, `delete-{name}` its buttons |
//! | `upload-{n}` | a file on its way |
//! | `editor`, `editor-save`, `editor-close`, `editor-conflict`, `editor-read-again` | the text editor |
//! | **share dialog** | |
//! | `share-dialog`, `share-role`, `share-expiry`, `share-create` | the form |
//! | `share-url`, `share-copy`, `share-qr` | the link just made |
//! | `link-{id}`, `revoke-{id}` | links and their ends |
//! | **others** | |
//! | `keyboard-sheet`, `settings-dialog` | dialogs |
//! | `theme-{name}`, `font-smaller`, `font-larger`, `copy-on-select`, `screen-reader` | settings |
