//! What people see: one component a file, named after the thing on the screen. Components read the store's signals
//! and call its methods; none of them talks to the server. Names for browser tests are listed in `testids`.

mod bottom_tabs;
mod cluster_dialog;
mod confirm_button;
mod connection_banner;
mod connection_state;
mod countdown;
mod dialog;
mod docker_dock;
mod el;
mod end_dialog;
mod file_editor;
mod file_list;
mod files_dock;
mod icon;
mod key_bar;
mod keyboard_sheet;
mod node_card;
mod nodes_panel;
mod notice_list;
mod own_session_list;
mod problem_page;
mod queue_card;
mod root;
mod search_box;
mod separator;
mod session_page;
mod settings_dialog;
mod share_dialog;
mod start_page;
mod tab_bar;
mod terminal_pane;
mod top_bar;
mod upload_list;
mod usage_chart;
mod workspace;

pub use root::run;
