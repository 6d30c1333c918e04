# ~/.bashrc of a Drydock node: read by every interactive shell. It starts no program, so that a terminal opens at once.
[[ $- == *i* ]] || return

export LANG=${LANG:-C.UTF-8} EDITOR=${EDITOR:-vim}
PS1='\[\e[1;32m\]\u@\h\[\e[0m\]:\[\e[1;34m\]\w\[\e[0m\]\$ '
HISTCONTROL=ignoreboth HISTSIZE=10000 HISTFILESIZE=20000
shopt -s checkwinsize histappend globstar

alias ls='ls --color=auto' ll='ls -lh' la='ls -A'
alias grep='grep --color=auto' diff='diff --color=auto' ip='ip -color=auto'

# The completion scripts take longer to read than all the rest of the start: read them at the first Tab.
__first_completion() {
    unset -f __first_completion
    complete -r -D
    . /usr/share/bash-completion/bash_completion
    _comp_complete_load "$@"
}
complete -D -F __first_completion -o bashdefault -o default
