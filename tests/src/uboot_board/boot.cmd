# U-Boot's script of a board in QEMU: which slot is started, by the variables of RAUC.
#
# Debian's U-Boot for this machine keeps no environment. The one of this board is in the partitions env-1 and env-2, in the
# form that U-Boot and fw_setenv give to two copies: a CRC-32, a byte that counts, the variables.
# Numbers are hexadecimal. There is no arithmetic.

# The watchdog of the board, which ends a boot that hangs: an i6300ESB, the first device behind the bridges, so that its
# registers are where U-Boot puts the first ones. It counts 1007 times in a second, twice; after the second time, in
# 260 seconds, it resets. A driver of Linux stops it, and systemd feeds it from then on.
mw.b c000000c 80
mw.b c000000c 86
mw.l c0000000 8000
mw.b c000000c 80
mw.b c000000c 86
mw.l c0000004 38000
pci write.b 0.2.0 68 2

part start virtio 0 env-1 first
part start virtio 0 env-2 second
virtio read 2000000 ${first} 20
virtio read 2100000 ${second} 20

# The CRC is stored in the other order of bytes than it is computed in.
setenv first_is_whole
crc32 2000005 3ffb 2200000
if itest.b *2200000 == *2000003 && itest.b *2200001 == *2000002 && itest.b *2200002 == *2000001 && itest.b *2200003 == *2000000; then setenv first_is_whole yes; fi
setenv second_is_whole
crc32 2100005 3ffb 2200000
if itest.b *2200000 == *2100003 && itest.b *2200001 == *2100002 && itest.b *2200002 == *2100001 && itest.b *2200003 == *2100000; then setenv second_is_whole yes; fi

# Of two that are whole the one that counts higher, or has just begun again.
setenv counts first
if test "${second_is_whole}" = yes; then
    if test "${first_is_whole}" = yes; then
        if itest.b *2100004 > *2000004; then setenv counts second; fi
        if itest.b *2100004 == 0 && itest.b *2000004 == ff; then setenv counts second; fi
        if itest.b *2100004 == ff && itest.b *2000004 == 0; then setenv counts first; fi
    else
        setenv counts second
    fi
fi
if test "${first_is_whole}${second_is_whole}" = ""; then echo "both copies of the environment are torn"; reset; fi
if test ${counts} = first; then setenv now 2000; setenv other 2100; setenv place ${second}; else setenv now 2100; setenv other 2000; setenv place ${first}; fi
env import -b ${now}005 3ffb BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT

# The first one in the order that has attempts left has one less.
setenv slot
for name in ${BOOT_ORDER}; do
    if test "${slot}" = "" && test "${name}" = A && test ${BOOT_A_LEFT} -gt 0; then
        setenv slot a
        if test ${BOOT_A_LEFT} = 1; then setenv BOOT_A_LEFT 0; fi
        if test ${BOOT_A_LEFT} = 2; then setenv BOOT_A_LEFT 1; fi
        if test ${BOOT_A_LEFT} = 3; then setenv BOOT_A_LEFT 2; fi
    fi
    if test "${slot}" = "" && test "${name}" = B && test ${BOOT_B_LEFT} -gt 0; then
        setenv slot b
        if test ${BOOT_B_LEFT} = 1; then setenv BOOT_B_LEFT 0; fi
        if test ${BOOT_B_LEFT} = 2; then setenv BOOT_B_LEFT 1; fi
        if test ${BOOT_B_LEFT} = 3; then setenv BOOT_B_LEFT 2; fi
    fi
done
if test "${slot}" = ""; then setenv BOOT_A_LEFT 3; setenv BOOT_B_LEFT 3; fi

# What has changed goes to the copy that did not count.
mw.b ${other}000 0 4000
env export -b -s 3ffb ${other}005 BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
crc32 ${other}005 3ffb 2200000
cp.b 2200003 ${other}000 1
cp.b 2200002 ${other}001 1
cp.b 2200001 ${other}002 1
cp.b 2200000 ${other}003 1
setenv before ff
for count in @counts@; do
    if itest.b *${now}004 == ${before}; then mw.b ${other}004 ${count}; fi
    setenv before ${count}
done
virtio write ${other}000 ${place} 20
if test "${slot}" = ""; then echo "no slot has an attempt left"; reset; fi

echo "starting ${slot} (BOOT_ORDER=${BOOT_ORDER} BOOT_A_LEFT=${BOOT_A_LEFT} BOOT_B_LEFT=${BOOT_B_LEFT})"
part number virtio 0 boot-${slot} number
load virtio 0:${number} 2300000 arguments
env import -t 2300000 ${filesize} arguments
if test ${slot} = a; then setenv name A; else setenv name B; fi
setenv bootargs root=PARTLABEL=rootfs-${slot} rauc.slot=${name} ${arguments}
load virtio 0:${number} ${kernel_addr_r} bzImage
setenv kernel_size ${filesize}
# Where U-Boot would put it the kernel unpacks itself.
load virtio 0:${number} 8000000 initramfs
zboot ${kernel_addr_r} ${kernel_size} 8000000 ${filesize}
# It cannot be started: the next boot has one attempt less.
reset
