<#
What a Windows host says about its patch level and its TLS configuration, for tls-readiness-exporter.

It reads the registry, WMI, file versions and the public part of the computer's certificates. It changes nothing and
contacts nobody; only -PendingUpdates has Windows Update ask its server. docs/permissions.md explains each read.

  powershell.exe -NoProfile -ExecutionPolicy Bypass -File collect.ps1 [-OutFile PATH] [-UsageMegabytes N] [-PendingUpdates]

  -OutFile         write the document to this file instead of standard output
  -UsageMegabytes  count the TLS versions in the newest SMTP protocol logs, reading at most so much of them per side
  -PendingUpdates  list what Windows Update would install; takes minutes

For PowerShell 2.0 to 5.1: nothing newer is used. Output is ASCII: one JSON document between two lines.
#>
param([string]$OutFile = '', [int]$UsageMegabytes = 0, [switch]$PendingUpdates)

# A misspelt name must be an error that the document reports, never a quiet "not there".
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$ScriptVersion = '1.0.0'
# Where .NET, which knows no PowerShell folder, will find it.
if ($OutFile -ne '') { $OutFile = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($OutFile) }

#region access: everything that touches Windows

function Open-RegistryKey([string]$path) {
    # As the .NET call has it: "/" may be part of a name. $null is a key that is not there; but .NET says so of most
    # failures as well, which the key above shows.
    $key = [Microsoft.Win32.Registry]::LocalMachine.OpenSubKey($path)
    $last = $path.LastIndexOf([char]92)
    if ($null -eq $key -and $last -gt 0) {
        $above = Open-RegistryKey ($path.Substring(0, $last))
        if ($null -ne $above) {
            try { $listed = $above.GetSubKeyNames() -contains $path.Substring($last + 1) } finally { $above.Close() }
            if ($listed) { throw 'the key is there and cannot be opened: ' + $path }
        }
    }
    $key
}

function Test-RegistryKey([string]$path) {
    $key = Open-RegistryKey $path
    if ($null -eq $key) { return $false }
    $key.Close()
    return $true
}

function Get-RegistryKeyNames([string]$path) {
    $key = Open-RegistryKey $path
    if ($null -ne $key) {
        try { $key.GetSubKeyNames() } finally { $key.Close() }
    }
}

function Get-RegistryData([string]$path, [string]$valueName) {
    # The kind and the data of a value; $null where there is none.
    $key = Open-RegistryKey $path
    if ($null -eq $key) { return $null }
    try {
        if (-not ($key.GetValueNames() -contains $valueName)) { return $null }
        $unexpanded = [Microsoft.Win32.RegistryValueOptions]::DoNotExpandEnvironmentNames
        @{ kind = $key.GetValueKind($valueName).ToString(); data = $key.GetValue($valueName, $null, $unexpanded) }
    }
    finally { $key.Close() }
}

function Get-WmiRows([string]$class, [string[]]$properties) {
    # With a time limit, which Get-WmiObject has not: broken providers hang. psbase: PowerShell's own view of these
    # objects makes dates of some texts, in its own way.
    $searcher = [wmisearcher]('SELECT * FROM ' + $class)
    $searcher.Options.Timeout = [TimeSpan]::FromSeconds(120)
    foreach ($object in $searcher.Get()) {
        $row = New-Map
        foreach ($property in $properties) { $row.Add($property, $object.psbase.GetPropertyValue($property)) }
        $row
    }
}

function Test-SccmReboot {
    # $null where Configuration Manager's client is not installed.
    if (@(Get-WmiObject -Namespace 'root' -Class '__NAMESPACE' -Filter 'Name="ccm"').Count -eq 0) { return $null }
    $answer = Invoke-WmiMethod -Namespace 'root\ccm\clientSDK' -Class 'CCM_ClientUtilities' -Name 'DetermineIfRebootPending'
    if ($null -eq $answer -or $answer.ReturnValue -ne 0) { throw 'DetermineIfRebootPending does not say' }
    [bool]($answer.RebootPending -or $answer.IsHardRebootPending)
}

function Get-WindowsFolder {
    # Not from the environment, which may say anything; and a wrong folder has no files.
    $system = [Environment]::SystemDirectory
    if ($system.LastIndexOf([char]92) -le 0) { throw 'the Windows folder is not known' }
    $system.Substring(0, $system.LastIndexOf([char]92))
}

function Get-FileNumbers([string]$path) {
    # The four numbers of the fixed version information, because the text beside them may be another language's.
    try { [void][System.IO.File]::GetAttributes($path) }
    catch { if (Test-NotFound $_) { return $null } else { throw $_.Exception } }
    $version = [System.Diagnostics.FileVersionInfo]::GetVersionInfo($path)
    $numbers = $version.FileMajorPart, $version.FileMinorPart, $version.FileBuildPart, $version.FilePrivatePart
    # .NET says 0.0.0.0 of a file that it cannot read.
    $dotted = $numbers -join '.'
    if ($dotted -eq '0.0.0.0') { throw 'the version cannot be read: ' + $path }
    $dotted
}

function Get-StoreCertificates {
    $location = [System.Security.Cryptography.X509Certificates.StoreLocation]::LocalMachine
    $store = New-Object -TypeName System.Security.Cryptography.X509Certificates.X509Store -ArgumentList 'My', $location
    $store.Open([System.Security.Cryptography.X509Certificates.OpenFlags]::ReadOnly)
    try { foreach ($certificate in $store.Certificates) { [Convert]::ToBase64String($certificate.RawData) } }
    finally { $store.Close() }
}

function Get-UpdatesToInstall {
    $session = New-Object -ComObject 'Microsoft.Update.Session'
    $result = $session.CreateUpdateSearcher().Search('IsInstalled=0 and IsHidden=0')
    if ($result.ResultCode -ne 2) { throw 'the search for updates ended with result code ' + $result.ResultCode }
    foreach ($update in $result.Updates) {
        $row = New-Map
        $row.Add('title', [string]$update.Title)
        $row.Add('kb', @(foreach ($id in $update.KBArticleIDs) { 'KB' + $id }))
        $row
    }
}

function Get-LogFiles([string]$directory) {
    # Under one key, because a folder may be empty; $null where there is no such folder.
    try { @{ files = (New-Object -TypeName System.IO.DirectoryInfo -ArgumentList $directory).GetFiles('*.LOG') } }
    catch { if (Test-NotFound $_) { return $null } else { throw $_.Exception } }
}

function Open-LogFile([string]$path) {
    # Exchange may go on writing and deleting meanwhile.
    $mode, $access = [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read
    New-Object -TypeName System.IO.FileStream -ArgumentList $path, $mode, $access, ([System.IO.FileShare]'ReadWrite, Delete')
}

function Get-HostNames {
    $network = [System.Net.NetworkInformation.IPGlobalProperties]::GetIPGlobalProperties()
    $names = New-Map
    $names.Add('name', [Environment]::MachineName)
    $fqdn = $network.HostName
    if (-not $fqdn.Contains('.')) { $fqdn = ($fqdn + '.' + $network.DomainName).TrimEnd('.') }
    $names.Add('fqdn', $fqdn)
    $names
}

function Test-Administrator {
    $identity = [System.Security.Principal.WindowsIdentity]::GetCurrent()
    $principal = New-Object -TypeName System.Security.Principal.WindowsPrincipal -ArgumentList $identity
    $principal.IsInRole([System.Security.Principal.WindowsBuiltInRole]::Administrator)
}

function Test-Redirected {
    # A 32-bit process on a 64-bit Windows is shown another SOFTWARE key and another System32.
    [IntPtr]::Size -eq 4 -and $null -ne [Environment]::GetEnvironmentVariable('PROCESSOR_ARCHITEW6432')
}

#endregion

function New-Map {
    New-Object -TypeName System.Collections.Specialized.OrderedDictionary
}

function Get-Cause($record) {
    # The innermost exception: PowerShell wraps those of .NET's methods, and those that -ErrorAction makes an end of.
    $exception = $record.Exception
    if ($exception -is [System.Management.Automation.ActionPreferenceStopException]) {
        $exception = $exception.ErrorRecord.Exception
    }
    while ($null -ne $exception.InnerException) { $exception = $exception.InnerException }
    $exception
}

function Test-NotFound($record) {
    'FileNotFoundException', 'DirectoryNotFoundException' -contains (Get-Cause $record).GetType().Name
}

function Get-Failure($record) {
    $cause = Get-Cause $record
    $type = $cause.GetType()
    $denied = 'UnauthorizedAccessException', 'SecurityException' -contains $type.Name
    if ('COMException', 'ManagementException' -contains $type.Name) {
        # E_ACCESSDENIED, WBEM_E_ACCESS_DENIED
        $denied = -2147024891, -2147217405 -contains [int]$cause.ErrorCode
    }
    if ($type.Name -eq 'CryptographicException') {
        $code = [System.Runtime.InteropServices.Marshal]::GetHRForException($cause)
        $denied = -2147024891, 5 -contains $code
    }
    $failure = New-Map
    if ($denied) { $failure.Add('kind', 'access_denied') } else { $failure.Add('kind', 'error') }
    $failure.Add('type', $type.FullName)
    $message = [string]$cause.Message
    $failure.Add('message', $message.Substring(0, [Math]::Min(300, $message.Length)))
    $failure
}

# Sections. An item that cannot be read costs itself, whatever happens to a section costs the rest of that section.
# Script blocks see the variables of whoever runs them: hence the long names here.

function Add-Section([string]$sectionName, [scriptblock]$sectionBody) {
    $sectionItems = New-Map
    $sectionErrors = New-Map
    $sectionWatch = [System.Diagnostics.Stopwatch]::StartNew()
    if (Test-Redirected) {
        $failure = New-Map
        $failure.Add('kind', 'redirected')
        $failure.Add('type', '')
        $failure.Add('message', 'a 32-bit process sees another registry and other files: use the 64-bit PowerShell')
        $sectionErrors.Add('*', $failure)
    }
    else {
        try { $null = & $sectionBody } catch { $sectionErrors.Add('*', (Get-Failure $_)) }
    }
    $section = New-Map
    $section.Add('items', $sectionItems)
    $section.Add('errors', $sectionErrors)
    $section.Add('milliseconds', $sectionWatch.ElapsedMilliseconds)
    $sections.Add($sectionName, $section)
}

function Add-Item([string]$itemName, [scriptblock]$itemBody) {
    try { $itemValue = & $itemBody; Add-Value $itemName $itemValue }
    catch { $sectionErrors.Add($itemName, (Get-Failure $_)) }
}

function Add-List([string]$itemName, [scriptblock]$itemBody) {
    # What a block puts out one by one: none and one are lists as well.
    try { $itemValue = @(& $itemBody); Add-Value $itemName $itemValue }
    catch { $sectionErrors.Add($itemName, (Get-Failure $_)) }
}

function Add-Value([string]$itemName, $itemValue) {
    # What has no JSON must cost its item here, and not the document at the end.
    Write-Json (New-Object -TypeName System.Text.StringBuilder) $itemValue 0
    $sectionItems.Add($itemName, $itemValue)
}

# Registry values, with their types

function Get-Value([string]$path, [string]$valueName) {
    $raw = Get-RegistryData $path $valueName
    if ($null -eq $raw) { return $null }
    $data = $raw['data']
    if ($null -eq $data -and $raw['kind'] -ne 'Unknown') { throw 'the value cannot be read: ' + $valueName }
    $type = 'other'
    switch -exact ($raw['kind']) {
        # .NET reads 0xFFFFFFFF as -1, and more than four bytes as another type, which has no form here.
        'DWord' {
            if ($data -isnot [int]) { throw 'a REG_DWORD of another size: ' + $valueName }
            $type = 'REG_DWORD'
            $data = [BitConverter]::ToUInt32([BitConverter]::GetBytes($data), 0)
        }
        'QWord' { $type = 'REG_QWORD'; $data = [BitConverter]::ToUInt64([BitConverter]::GetBytes([long]$data), 0) }
        'String' { $type = 'REG_SZ'; $data = [string]$data }
        'ExpandString' { $type = 'REG_EXPAND_SZ'; $data = [string]$data }
        'MultiString' { $type = 'REG_MULTI_SZ'; $data = [string[]]$data }
        'Binary' { $type = 'REG_BINARY'; $data = [Convert]::ToBase64String([byte[]]$data) }
        default { $data = $null }
    }
    $value = New-Map
    $value.Add('type', $type)
    $value.Add('value', $data)
    $value
}

function Get-Values([string]$path, [string[]]$valueNames) {
    $values = New-Map
    foreach ($each in $valueNames) { $values.Add($each, (Get-Value $path $each)) }
    $values
}

function Get-EnabledOfSubkeys([string]$path) {
    $values = New-Map
    foreach ($each in @(Get-RegistryKeyNames $path)) { $values.Add($each, (Get-Value "$path\$each" 'Enabled')) }
    $values
}

function Get-BothViews([scriptblock]$viewBody) {
    # Of HKLM\SOFTWARE: what 64-bit and what 32-bit programs read.
    $views = New-Map
    $software = 'SOFTWARE'
    $views.Add('native', (& $viewBody))
    $software = 'SOFTWARE\Wow6432Node'
    $views.Add('wow', (& $viewBody))
    $views
}

function Get-File([string]$path) {
    $numbers = Get-FileNumbers $path
    if ($null -eq $numbers) { return $null }
    $file = New-Map
    $file.Add('path', $path)
    $file.Add('version', $numbers)
    $file
}

function Get-Exchange {
    # Of 2013 and newer, else of 2010: the version in the names of its keys, and its folder; $null where there is none.
    foreach ($versionKey in 'v15', 'v14') {
        $value = Get-Value "SOFTWARE\Microsoft\ExchangeServer\$versionKey\Setup" 'MsiInstallPath'
        if ($null -eq $value) { continue }
        if ($value['type'] -ne 'REG_SZ' -or $value['value'] -eq '') { throw "MsiInstallPath of $versionKey is no folder" }
        return @{ key = $versionKey; folder = $value['value'].TrimEnd('\') }
    }
    return $null
}

# SMTP protocol logs

function Read-SmtpLogs([string[]]$directories, [long]$limit) {
    $found = @()
    $files = @()
    foreach ($directory in $directories) {
        $folder = Get-LogFiles $directory
        if ($null -ne $folder) {
            $found += $directory
            $files += @($folder['files'])
        }
    }
    $tally = @{ files = 0; bytes = [long]0; truncated = $false; from = ''; until = ''; sessions = @{}; peers = @{} }
    foreach ($file in @($files | Sort-Object -Property LastWriteTimeUtc -Descending)) {
        if ($tally['bytes'] -ge $limit) { $tally['truncated'] = $true } else { Read-SmtpLog $file.FullName $limit $tally }
    }
    $log = New-Map
    $log.Add('directories', $found)
    foreach ($each in 'files', 'bytes', 'truncated') { $log.Add($each, $tally[$each]) }
    foreach ($each in 'from', 'until') {
        if ($tally[$each].Length -eq 0) { $log.Add($each, $null) } else { $log.Add($each, $tally[$each]) }
    }
    $sessions = New-Map
    foreach ($entry in @($tally['sessions'].GetEnumerator() | Sort-Object -Property Key)) {
        $sessions.Add($entry.Key, $entry.Value)
    }
    $log.Add('sessions', $sessions)
    $log.Add('peers', @(Get-TopPeers $tally['peers']))
    $log
}

function Read-SmtpLog([string]$path, [long]$limit, $tally) {
    # The end of the file, as far as the limit lets. Exchange deletes old ones, and this may be one of them.
    try { $stream = Open-LogFile $path }
    catch { if (Test-NotFound $_) { return } else { throw $_.Exception } }
    try {
        $skip = [Math]::Max([long]0, $stream.Length - $limit + $tally['bytes'])
        if ($skip -gt 0) { $tally['truncated'] = $true }
        $tally['files'] += 1
        $tally['bytes'] += $stream.Length - $skip
        [void]$stream.Seek($skip, [System.IO.SeekOrigin]::Begin)
        $reader = New-Object -TypeName System.IO.StreamReader -ArgumentList $stream
        if ($skip -gt 0) { [void]$reader.ReadLine() }
        while ($null -ne ($line = $reader.ReadLine())) {
            # Not what a crash left behind.
            if (-not ($line -cmatch '\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z,')) { continue }
            $time = $line.Substring(0, 24)
            if ($tally['from'].Length -eq 0 -or [string]::CompareOrdinal($time, $tally['from']) -lt 0) { $tally['from'] = $time }
            if ([string]::CompareOrdinal($time, $tally['until']) -gt 0) { $tally['until'] = $time }
            if ($line.Contains('TLS protocol ') -or $line.Contains('SP_PROT')) { Add-Session $line $tally }
        }
    }
    finally { $stream.Close() }
}

function Add-Session([string]$line, $tally) {
    # date-time,connector-id,session-id,sequence-number,local-endpoint,remote-endpoint,event,data,context: the event is *,
    # and data or context begins with the words, which no client can say there. A protocol that Exchange has no name for
    # is written as its number.
    $fields = '^[^,]*,("([^"]|"")*"|[^,]*),[^,]*,[^,]*,[^,]*,([^,]*):[0-9]+,\*,'
    $named = '(TLS protocol )?SP_PROT[_-]([A-Z]{3,4}[0-9](_[0-9])?)_(SERVER|CLIENT)([ ",]|$)'
    $words = ',?"?(' + $named + '|TLS protocol ([0-9]{1,10}) )'
    if (-not ($line -cmatch ($fields + $words))) { return }
    if ($null -ne $matches[6]) { $protocol = $matches[6] } else { $protocol = $matches[10] }
    $tally['sessions'][$protocol] = 1 + [int]$tally['sessions'][$protocol]
    $peer = $protocol + ' ' + $matches[3]
    $tally['peers'][$peer] = 1 + [int]$tally['peers'][$peer]
}

function Get-TopPeers($peers) {
    $places = @{}
    foreach ($peer in @($peers.Keys | Sort-Object -Property @{ Expression = { 0 - $peers[$_] } }, @{ Expression = { $_ } })) {
        $protocol, $address = $peer.Split(' ')
        $places[$protocol] = 1 + [int]$places[$protocol]
        if ($places[$protocol] -gt 20) { continue }
        $row = New-Map
        $row.Add('protocol', $protocol)
        $row.Add('address', $address)
        $row.Add('sessions', $peers[$peer])
        $row
    }
}

# JSON, in ASCII

function Write-Json($text, $value, [int]$depth) {
    if ($null -eq $value) { [void]$text.Append('null') }
    elseif ($value -is [string]) { Write-JsonString $text $value }
    elseif ($value -is [bool]) { if ($value) { [void]$text.Append('true') } else { [void]$text.Append('false') } }
    elseif ($value -is [System.Collections.IDictionary]) { Write-JsonObject $text $value $depth }
    elseif ($value -is [System.Collections.IList]) {
        $between = '['
        foreach ($each in $value) {
            [void]$text.Append($between)
            Write-Json $text $each ($depth + 1)
            $between = ','
        }
        if ($between -eq '[') { [void]$text.Append($between) }
        [void]$text.Append(']')
    }
    elseif ('Int32', 'UInt32', 'Int64', 'UInt64', 'Int16', 'UInt16', 'Byte' -contains $value.GetType().Name) {
        [void]$text.Append($value.ToString([System.Globalization.CultureInfo]::InvariantCulture))
    }
    else { throw 'no JSON for ' + $value.GetType().FullName }
}

function Write-JsonObject($text, $map, [int]$depth) {
    $between = '{'
    foreach ($entry in $map.GetEnumerator()) {
        [void]$text.Append($between)
        Write-JsonString $text $entry.Key
        [void]$text.Append(':')
        Write-Json $text $entry.Value ($depth + 1)
        $between = ','
        if ($depth -lt 3) { $between = ",`r`n" }
    }
    if ($between -eq '{') { [void]$text.Append($between) }
    [void]$text.Append('}')
}

function Write-JsonString($text, [string]$value) {
    [void]$text.Append('"')
    # Case-sensitive: otherwise the Kelvin sign is a k. \z: $ also stands before a newline.
    if ($value -cmatch '\A[ !#-\[\]-~]*\z') { [void]$text.Append($value) }
    else {
        foreach ($char in $value.ToCharArray()) {
            $code = [int]$char
            if ($code -ge 32 -and $code -le 126 -and $code -ne 34 -and $code -ne 92) { [void]$text.Append($char) }
            else { [void]$text.Append('\u' + $code.ToString('x4')) }
        }
    }
    [void]$text.Append('"')
}

# What is read

$sections = New-Map
$currentVersion = 'SOFTWARE\Microsoft\Windows\CurrentVersion'
$control = 'SYSTEM\CurrentControlSet\Control'
$schannel = "$control\SecurityProviders\SCHANNEL"

Add-Section 'windows' {
    $key = 'SOFTWARE\Microsoft\Windows NT\CurrentVersion'
    Add-Item 'build' { Get-Value $key 'CurrentBuild' }
    Add-Item 'ubr' { Get-Value $key 'UBR' }
    Add-Item 'installation_type' { Get-Value $key 'InstallationType' }
    $properties = 'Caption', 'Version', 'ServicePackMajorVersion', 'ProductType', 'LastBootUpTime'
    $system = @(Get-WmiRows 'Win32_OperatingSystem' $properties)[0]
    Add-Item 'caption' { $system['Caption'] }
    Add-Item 'version' { $system['Version'] }
    Add-Item 'service_pack' { $system['ServicePackMajorVersion'] }
    Add-Item 'product_type' { $system['ProductType'] }
    Add-Item 'last_boot' { $system['LastBootUpTime'] }
}

Add-Section 'exchange' {
    $exchange = Get-Exchange
    if ($null -eq $exchange) {
        foreach ($each in 'version_key', 'install_path', 'exsetup') { Add-Item $each { $null } }
        Add-List 'roles' { @() }
    }
    else {
        Add-Item 'version_key' { $exchange['key'] }
        Add-Item 'install_path' { $exchange['folder'] }
        Add-Item 'exsetup' { Get-File ($exchange['folder'] + '\bin\ExSetup.exe') }
        Add-List 'roles' {
            $key = 'SOFTWARE\Microsoft\ExchangeServer\' + $exchange['key']
            foreach ($role in @(Get-RegistryKeyNames $key)) {
                if ($role -like '*Role' -and $null -ne (Get-Value "$key\$role" 'ConfiguredVersion')) { $role }
            }
        }
    }
}

Add-Section 'dotnet' {
    $setup = 'SOFTWARE\Microsoft\NET Framework Setup\NDP'
    Add-Item 'release' { Get-Value "$setup\v4\Full" 'Release' }
    Add-Item 'v35' { Get-Values "$setup\v3.5" 'Install', 'SP', 'Version' }
    Add-Item 'clr2_system_dll' {
        $framework = (Get-WindowsFolder) + '\Microsoft.NET\Framework'
        $folders = New-Map
        $folders.Add('native', (Get-File "${framework}64\v2.0.50727\System.dll"))
        $folders.Add('wow', (Get-File "$framework\v2.0.50727\System.dll"))
        $folders
    }
    Add-Item 'switches' {
        $switches = New-Map
        foreach ($clr in 'v2.0.50727', 'v4.0.30319') {
            $switches.Add($clr, (Get-BothViews {
                        Get-Values "$software\Microsoft\.NETFramework\$clr" 'SystemDefaultTlsVersions', 'SchUseStrongCrypto'
                    }))
        }
        $switches
    }
}

Add-Section 'hotfixes' {
    Add-List 'list' {
        foreach ($fix in @(Get-WmiRows 'Win32_QuickFixEngineering' 'HotFixID', 'InstalledOn')) {
            $row = New-Map
            $row.Add('id', [string]$fix['HotFixID'])
            $row.Add('installed_on', $fix['InstalledOn'])
            $row
        }
    }
}

Add-Section 'servicing' {
    $wanted = '^Package_for_(RollupFix|KB(3161949|2973337|3154517|3154518|3154519|3154520|3080079|4019276|4074621|3140245))~'
    Add-List 'packages' {
        $key = "$currentVersion\Component Based Servicing\Packages"
        foreach ($package in @(Get-RegistryKeyNames $key)) {
            if ($package -match $wanted) {
                $row = Get-Values "$key\$package" 'CurrentState', 'InstallTimeHigh', 'InstallTimeLow'
                $row.Insert(0, 'name', $package)
                $row
            }
        }
    }
}

Add-Section 'files' {
    foreach ($file in 'ws2_32.dll', 'schannel.dll', 'winhttp.dll', 'webio.dll', 'win32k.sys') {
        Add-Item $file { Get-File ((Get-WindowsFolder) + '\System32\' + $file) }
    }
}

Add-Section 'reboot' {
    Add-Item 'cbs' { Test-RegistryKey "$currentVersion\Component Based Servicing\RebootPending" }
    Add-Item 'windows_update' { Test-RegistryKey "$currentVersion\WindowsUpdate\Auto Update\RebootRequired" }
    Add-Item 'update_exe' { Get-Value 'SOFTWARE\Microsoft\Updates\UpdateExeVolatile' 'Flags' }
    Add-Item 'file_rename' {
        $renames = Get-Value "$control\Session Manager" 'PendingFileRenameOperations'
        $null -ne $renames -and @($renames['value']).Count -gt 0
    }
    Add-Item 'sccm' { Test-SccmReboot }
}

Add-Section 'schannel' {
    Add-Item 'protocols' {
        $protocols = New-Map
        foreach ($protocol in 'SSL 2.0', 'SSL 3.0', 'TLS 1.0', 'TLS 1.1', 'TLS 1.2', 'TLS 1.3', 'DTLS 1.0', 'DTLS 1.2') {
            $sides = New-Map
            foreach ($side in 'Client', 'Server') {
                $sides.Add($side, (Get-Values "$schannel\Protocols\$protocol\$side" 'Enabled', 'DisabledByDefault'))
            }
            $protocols.Add($protocol, $sides)
        }
        $protocols
    }
    Add-Item 'ciphers' { Get-EnabledOfSubkeys "$schannel\Ciphers" }
    Add-Item 'hashes' { Get-EnabledOfSubkeys "$schannel\Hashes" }
    Add-Item 'key_exchange' {
        $algorithms = New-Map
        $key = "$schannel\KeyExchangeAlgorithms"
        foreach ($algorithm in @(Get-RegistryKeyNames $key)) {
            $names = 'Enabled', 'ClientMinKeyBitLength', 'ServerMinKeyBitLength'
            $algorithms.Add($algorithm, (Get-Values "$key\$algorithm" $names))
        }
        $algorithms
    }
    Add-Item 'renegotiation' { Get-Values $schannel 'AllowInsecureRenegoClients', 'AllowInsecureRenegoServers' }
}

Add-Section 'cipher_suites' {
    $policy = 'SOFTWARE\Policies\Microsoft\Cryptography\Configuration\SSL'
    $local = "$control\Cryptography\Configuration\Local\SSL"
    Add-Item 'policy' { Get-Value "$policy\00010002" 'Functions' }
    Add-Item 'local' { Get-Value "$local\00010002" 'Functions' }
    Add-Item 'curves_policy' { Get-Value "$policy\00010002" 'EccCurves' }
    Add-Item 'curves_local' { Get-Value "$local\00010002" 'EccCurves' }
    Add-Item 'signatures_policy' { Get-Value "$policy\00010003" 'Functions' }
    Add-Item 'signatures_local' { Get-Value "$local\00010003" 'Functions' }
}

Add-Section 'winhttp' {
    $key = 'Microsoft\Windows\CurrentVersion\Internet Settings\WinHttp'
    Add-Item 'native' { Get-Value "SOFTWARE\$key" 'DefaultSecureProtocols' }
    Add-Item 'wow' { Get-Value "SOFTWARE\Wow6432Node\$key" 'DefaultSecureProtocols' }
}

Add-Section 'security' {
    Add-Item 'fips' { Get-Value "$control\Lsa\FipsAlgorithmPolicy" 'Enabled' }
}

Add-Section 'certificates' {
    Add-List 'my' { Get-StoreCertificates }
    Add-List 'bindings' {
        foreach ($kind in 'SslBindingInfo', 'SslSniBindingInfo') {
            $key = "SYSTEM\CurrentControlSet\Services\HTTP\Parameters\$kind"
            foreach ($binding in @(Get-RegistryKeyNames $key)) {
                $row = Get-Values "$key\$binding" 'SslCertHash', 'SslCertStoreName', 'HostnamePort'
                $row.Insert(0, 'binding', $binding)
                $row
            }
        }
    }
    Add-Item 'rdp' {
        Get-Values "$control\Terminal Server\WinStations\RDP-Tcp" 'SSLCertificateSHA1Hash', 'SecurityLayer', 'MinEncryptionLevel'
    }
}

if ($UsageMegabytes -gt 0) {
    Add-Section 'usage' {
        $exchange = Get-Exchange
        $folders = @()
        if ($null -ne $exchange) {
            foreach ($each in 'FrontEnd\', 'Hub\', 'Edge\', '') {
                $folders += $exchange['folder'] + "\TransportRoles\Logs\${each}ProtocolLog\"
            }
        }
        $limit = [long]$UsageMegabytes * 1048576
        Add-Item 'receive' { Read-SmtpLogs @(foreach ($folder in $folders) { $folder + 'SmtpReceive' }) $limit }
        Add-Item 'send' { Read-SmtpLogs @(foreach ($folder in $folders) { $folder + 'SmtpSend' }) $limit }
    }
}

if ($PendingUpdates) {
    Add-Section 'pending_updates' { Add-List 'list' { Get-UpdatesToInstall } }
}

# The document

$culture = [System.Globalization.CultureInfo]::InvariantCulture
$powershell = New-Map
$powershell.Add('version', $PSVersionTable.PSVersion.ToString())
$powershell.Add('clr', [Environment]::Version.ToString())
$powershell.Add('bits', [IntPtr]::Size * 8)
$powershell.Add('redirected', (Test-Redirected))
$options = New-Map
$options.Add('pending_updates', [bool]$PendingUpdates)
$options.Add('usage_megabytes', [Math]::Max(0, $UsageMegabytes))
$document = New-Map
$document.Add('schema_version', 1)
$document.Add('script_version', $ScriptVersion)
$document.Add('collected_at', [DateTime]::UtcNow.ToString('yyyy-MM-ddTHH:mm:ssZ', $culture))
try { $hostNames = Get-HostNames }
catch {
    $hostNames = New-Map
    $hostNames.Add('name', [Environment]::MachineName)
    $hostNames.Add('fqdn', [Environment]::MachineName)
}
try { $elevated = Test-Administrator } catch { $elevated = $null }
$document.Add('host', $hostNames)
$document.Add('powershell', $powershell)
$document.Add('elevated', $elevated)
$document.Add('options', $options)
$document.Add('sections', $sections)

$text = New-Object -TypeName System.Text.StringBuilder
Write-Json $text $document 0
$output = "-----BEGIN TLS READINESS DOCUMENT-----`r`n" + $text.ToString() + "`r`n-----END TLS READINESS DOCUMENT-----`r`n"
if ($OutFile -eq '') {
    # Past PowerShell's own formatting, which may break long lines.
    [Console]::Out.Write($output)
}
else {
    # Never in place, where somebody might read half of it; and the old one goes only when the new one is there.
    [System.IO.File]::WriteAllText("$OutFile.new", $output, [System.Text.Encoding]::ASCII)
    try { [System.IO.File]::Replace("$OutFile.new", $OutFile, "$OutFile.old", $true) }
    catch {
        # There is none yet, or the file system cannot replace.
        if ([System.IO.File]::Exists($OutFile)) {
            [System.IO.File]::Delete("$OutFile.old")
            [System.IO.File]::Move($OutFile, "$OutFile.old")
        }
        try { [System.IO.File]::Move("$OutFile.new", $OutFile) }
        catch {
            if ([System.IO.File]::Exists("$OutFile.old")) { [System.IO.File]::Move("$OutFile.old", $OutFile) }
            throw $_.Exception
        }
    }
    try { [System.IO.File]::Delete("$OutFile.old") } catch { $null = $_ }
}
