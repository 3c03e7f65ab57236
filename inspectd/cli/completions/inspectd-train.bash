_inspectd_train_completion() {
    local IFS=$'
'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" \
                   COMP_CWORD=$COMP_CWORD \
                   _INSPECTD_TRAIN_COMPLETE=complete_bash $1 ) )
    return 0
}

complete -o default -F _inspectd_train_completion inspectd-train
