# SPDX-License-Identifier: BSD-2-Clause
"""Trusted storage: persistent objects of trusted services (docs/decisions/0009-trusted-storage.md).

::

    door       takes requests of services, and does them one after the other
    service    what each of them does                             tee_svc_storage.c
    handles    who has an object open, and how                    tee_pobj.c
    store      objects, in the tables of the TEE's state file     tee_ree_fs.c, tee_rpmb_fs.c
    content    data in chunks, and which of them are current      fs_htree.c
    head       what is known of an object
    seal       keys, and what is sealed with them                 tee_fs_key_manager.c
"""
