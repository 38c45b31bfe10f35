;; A plugin by hand, for what compilers do not emit. `corpus/assembled.rs` puts text in its places, which
;; have their names in braces:
;;
;;   pages      pages of memory, `least` or `least most`
;;   realloc    what the host's request for memory does
;;   core       more functions of the main module
;;   run        the body of the hook: of `$machine $disk $files $git $settings $state`, all handles
;;   component  more parts of the component, instantiated before its hook is called
;;   lift       more options of the hook
;;
;; Memory: 24 zeroes at 0, which are the result `ok`; room for results of the host at 64; texts from 1024;
;; what the host asks for from 4096.
(component
  (import "cove:hooks/types@0.2.0" (instance $types
    (type $record (record
      (field "code" string) (field "message" string) (field "retryable" bool)))
    (export "error" (type (eq $record)))))
  (alias export $types "error" (type $error))
  (import "cove:hooks/log@0.2.0" (instance $log
    (type $words (enum "debug" "info" "warning" "error"))
    (export "level" (type $level (eq $words)))
    (export "log" (func (param "level" $level) (param "message" string)))))
  (import "cove:hooks/machine@0.2.0" (instance $machine
    (export "machine" (type (sub resource)))))
  (alias export $machine "machine" (type $machine))
  (import "cove:hooks/host-files@0.2.0" (instance $host-files
    (export "error" (type $e (eq $error)))
    (export "host-file" (type $file (sub resource)))
    (export "host-files" (type $files (sub resource)))
    (export "[method]host-files.entries" (func
      (param "self" (borrow $files)) (param "name" string)
      (result (result (list (own $file)) (error $e)))))))
  (alias export $host-files "host-file" (type $host-file))
  (alias export $host-files "host-files" (type $host-files))
  (import "cove:hooks/work-disk@0.2.0" (instance $work-disk
    (export "error" (type $e (eq $error)))
    (export "host-file" (type $file (eq $host-file)))
    (export "file-writer" (type $writer (sub resource)))
    (export "work-disk" (type $disk (sub resource)))
    (export "[method]work-disk.write-file" (func
      (param "self" (borrow $disk)) (param "path" string) (param "mode" u32)
      (param "content" (list u8)) (result (result (error $e)))))
    (export "[method]work-disk.import-file" (func
      (param "self" (borrow $disk)) (param "path" string) (param "mode" u32)
      (param "source" (borrow $file)) (result (result (error $e)))))
    (export "[method]work-disk.create" (func
      (param "self" (borrow $disk)) (param "path" string) (param "mode" u32)
      (result (result (own $writer) (error $e)))))
    (export "[method]file-writer.write" (func
      (param "self" (borrow $writer)) (param "bytes" (list u8)) (result (result (error $e)))))
    (export "[static]file-writer.finish" (func
      (param "writer" (own $writer)) (result (result (error $e)))))))
  (alias export $work-disk "file-writer" (type $file-writer))
  (alias export $work-disk "work-disk" (type $work-disk))
  (import "cove:hooks/git-config@0.2.0" (instance $git-config
    (export "git-config" (type (sub resource)))))
  (alias export $git-config "git-config" (type $git-config))
  (import "cove:hooks/settings@0.2.0" (instance $settings
    (export "error" (type $e (eq $error)))
    (export "settings" (type $settings (sub resource)))
    (export "[method]settings.text" (func
      (param "self" (borrow $settings)) (param "key" string)
      (result (result (option string) (error $e)))))))
  (alias export $settings "settings" (type $settings))
  (import "cove:hooks/state@0.2.0" (instance $state
    (export "state" (type (sub resource)))))
  (alias export $state "state" (type $state))

  (core module $memory
    (memory (export "memory") {pages})
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32)
        (result i32)
      {realloc}))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $bytes))
  (alias core export $memory "realloc" (core func $realloc))

  (core func $log (canon lower (func $log "log") (memory $bytes)))
  (core func $write-file (canon lower (func $work-disk "[method]work-disk.write-file")
    (memory $bytes) (realloc $realloc)))
  (core func $import-file (canon lower (func $work-disk "[method]work-disk.import-file")
    (memory $bytes) (realloc $realloc)))
  (core func $create (canon lower (func $work-disk "[method]work-disk.create")
    (memory $bytes) (realloc $realloc)))
  (core func $write (canon lower (func $work-disk "[method]file-writer.write")
    (memory $bytes) (realloc $realloc)))
  (core func $finish (canon lower (func $work-disk "[static]file-writer.finish")
    (memory $bytes) (realloc $realloc)))
  (core func $entries (canon lower (func $host-files "[method]host-files.entries")
    (memory $bytes) (realloc $realloc)))
  (core func $text (canon lower (func $settings "[method]settings.text")
    (memory $bytes) (realloc $realloc)))
  (core func $drop-machine (canon resource.drop $machine))
  (core func $drop-disk (canon resource.drop $work-disk))
  (core func $drop-writer (canon resource.drop $file-writer))
  (core func $drop-files (canon resource.drop $host-files))
  (core func $drop-file (canon resource.drop $host-file))
  (core func $drop-git (canon resource.drop $git-config))
  (core func $drop-settings (canon resource.drop $settings))
  (core func $drop-state (canon resource.drop $state))

  (core module $main
    (import "memory" "memory" (memory 1))
    (import "host" "log" (func $log (param $level i32) (param $text i32) (param $length i32)))
    (import "host" "write-file" (func $write-file
      (param $disk i32) (param $path i32) (param $path-length i32) (param $mode i32)
      (param $bytes i32) (param $length i32) (param $result i32)))
    (import "host" "import-file" (func $import-file
      (param $disk i32) (param $path i32) (param $path-length i32) (param $mode i32)
      (param $file i32) (param $result i32)))
    (import "host" "create" (func $create
      (param $disk i32) (param $path i32) (param $path-length i32) (param $mode i32)
      (param $result i32)))
    (import "host" "write" (func $write
      (param $writer i32) (param $bytes i32) (param $length i32) (param $result i32)))
    (import "host" "finish" (func $finish (param $writer i32) (param $result i32)))
    (import "host" "entries" (func $entries
      (param $files i32) (param $name i32) (param $length i32) (param $result i32)))
    (import "host" "text" (func $text
      (param $settings i32) (param $key i32) (param $length i32) (param $result i32)))
    (import "host" "drop-machine" (func $drop-machine (param i32)))
    (import "host" "drop-disk" (func $drop-disk (param i32)))
    (import "host" "drop-writer" (func $drop-writer (param i32)))
    (import "host" "drop-files" (func $drop-files (param i32)))
    (import "host" "drop-file" (func $drop-file (param i32)))
    (import "host" "drop-git" (func $drop-git (param i32)))
    (import "host" "drop-settings" (func $drop-settings (param i32)))
    (import "host" "drop-state" (func $drop-state (param i32)))
    ;; Where the result is.
    (global $result (mut i32) (i32.const 0))
    (data (i32.const 1024) "allowed/file")
    (data (i32.const 1056) "importable")
    (data (i32.const 1088) "\ff\fe\c0\80")
    (data (i32.const 1120) "misbehaviour")
    ;; Stages a file on the disk of any handle.
    (func $stage (param $disk i32)
      (call $write-file (local.get $disk) (i32.const 1024) (i32.const 12) (i32.const 0x1a4)
        (i32.const 1024) (i32.const 1) (i32.const 64)))
    ;; A writer for that file.
    (func $writer (param $disk i32) (result i32)
      (call $create (local.get $disk) (i32.const 1024) (i32.const 12) (i32.const 0x1a4)
        (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then (unreachable)))
      (i32.load (i32.const 68)))
    {core}
    (func (export "run") (param $machine i32) (param $disk i32) (param $files i32) (param $git i32)
        (param $settings i32) (param $state i32) (result i32)
      {run}
      ;; Without this, the handles would outlive the call, which is a trap of its own.
      (call $drop-machine (local.get $machine))
      (call $drop-disk (local.get $disk))
      (call $drop-files (local.get $files))
      (call $drop-git (local.get $git))
      (call $drop-settings (local.get $settings))
      (call $drop-state (local.get $state))
      (global.get $result))
    (func (export "forever") (param i32) (loop (br 0))))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "host" (instance
      (export "log" (func $log))
      (export "write-file" (func $write-file))
      (export "import-file" (func $import-file))
      (export "create" (func $create))
      (export "write" (func $write))
      (export "finish" (func $finish))
      (export "entries" (func $entries))
      (export "text" (func $text))
      (export "drop-machine" (func $drop-machine))
      (export "drop-disk" (func $drop-disk))
      (export "drop-writer" (func $drop-writer))
      (export "drop-files" (func $drop-files))
      (export "drop-file" (func $drop-file))
      (export "drop-git" (func $drop-git))
      (export "drop-settings" (func $drop-settings))
      (export "drop-state" (func $drop-state))))))
  {component}
  (func $run
    (param "machine" (borrow $machine)) (param "disk" (borrow $work-disk))
    (param "files" (borrow $host-files)) (param "git" (borrow $git-config))
    (param "settings" (borrow $settings)) (param "state" (borrow $state))
    (result (result (error $error)))
    (canon lift (core func $main "run") (memory $bytes) (realloc $realloc) {lift}))
  (instance $hook (export "run" (func $run)))
  (export "cove:hooks/prepare-work-disk@0.2.0" (instance $hook)))
