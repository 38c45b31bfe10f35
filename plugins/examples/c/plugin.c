// Example plugin `hushlogin`: an empty `.hushlogin` in the home, which keeps logins quiet.
//
// The types are of the header that wit-bindgen makes of the contract. `true` is success. The handles are
// given back by the generated code (`--autodrop-borrows`), and what is returned is freed by it.

#include "prepare_work_disk_plugin.h"

static const char PATH[] = ".hushlogin";
static const uint32_t MODE = 0644;

// The setting `loud`; false when it is not set.
static bool is_loud(cove_hooks_settings_borrow_settings_t settings, bool *loud,
                    cove_hooks_types_error_t *error) {
    prepare_work_disk_plugin_string_t key;
    prepare_work_disk_plugin_string_set(&key, "loud");
    prepare_work_disk_plugin_option_bool_t setting;
    if (!cove_hooks_settings_method_settings_flag(settings, &key, &setting, error)) {
        return false;
    }
    *loud = setting.is_some && setting.val;
    return true;
}

bool exports_cove_hooks_prepare_work_disk_run(
    exports_cove_hooks_prepare_work_disk_borrow_machine_t machine,
    exports_cove_hooks_prepare_work_disk_borrow_work_disk_t disk,
    exports_cove_hooks_prepare_work_disk_borrow_host_files_t files,
    exports_cove_hooks_prepare_work_disk_borrow_git_config_t git,
    exports_cove_hooks_prepare_work_disk_borrow_settings_t settings,
    exports_cove_hooks_prepare_work_disk_borrow_state_t state,
    exports_cove_hooks_prepare_work_disk_error_t *error) {
    (void)machine, (void)files, (void)git, (void)state;
    bool loud;
    if (!is_loud(settings, &loud, error)) {
        return false;
    }
    prepare_work_disk_plugin_string_t path;
    prepare_work_disk_plugin_string_set(&path, PATH);
    if (loud) {
        return cove_hooks_work_disk_method_work_disk_remove(disk, &path, error);
    }
    prepare_work_disk_plugin_list_u8_t nothing = {.ptr = NULL, .len = 0};
    return cove_hooks_work_disk_method_work_disk_write_file(disk, &path, MODE, &nothing, error);
}
